-- What wrk runs: prepared bodies in turn; at the end one line of JSON. Arguments: the file of bodies, a pause in ms.
local requests, at, pause = {}, 0, 0

function init(args)
  local headers = {["Content-Type"] = "application/json"}
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, line)
  end
  pause = tonumber(args[2]) or 0
  -- Defined only where it is used: wrk asks a script that has it before every request.
  if pause > 0 then
    function delay()
      -- Even over 0 to twice the pause, so that the connections do not march in step.
      return math.random(0, 2 * pause)
    end
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  print(string.format(
    'measured {"rps":%.2f,"p50_ms":%.4f,"p90_ms":%.4f,"p99_ms":%.4f,"n":%d,"n_failed":%d}',
    summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1000, latency:percentile(90) / 1000,
    latency:percentile(99) / 1000, summary.requests, failed))
end
