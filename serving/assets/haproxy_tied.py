"""Stands in for HAProxy when Serve starts it, mends what Serve's settings cannot say, and becomes HAProxy.

Run by `haproxy-tied.sh` without site packages; needs KAIROS_HAPROXY_BINARY and KAIROS_RUN_DIR.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
EVERYWHERE = re.compile(r"^(\s*bind) \*?:(\d+)\s*$", re.MULTILINE)
"""Where Serve puts the pages of statistics and metrics: on every address, at ports that two runs would share."""
ERROR_FILE = re.compile(r"^ *errorfile .*\n", re.MULTILINE)
ACCESS_LOG = re.compile(r"^ *(?:log |option httplog|option log-health-checks).*\n", re.MULTILINE)
"""A line of every request, with the visitor's address and the path, to whatever listens on UDP port 514."""
NO_ROUTE = re.compile(r"^( *http-request return) status 404 content-type text/plain lf-string .*$", re.MULTILINE)
"""What Serve says while the application has not reached HAProxy yet, or has left it: it is to be tried again."""
UNAVAILABLE = 500, 502, 503, 504
"""What HAProxy says by itself of those behind it. Its 400 and 408 for what is no HTTP cannot be told otherwise."""
PATIENCE = """    timeout http-request 15s
    option http-ignore-probes
"""
"""Headers that never end would hold a connection for as long as a slow body may."""


def problem() -> str:
    """A problem document as the application writes them: what carries a messageId or requestId can be sent again."""
    code, message = "no_ingress", "no ingress answers at this moment: send the request again"
    told = {"type": f"urn:kairos:problem:{code}", "title": "Service Unavailable", "status": 503, "detail": message}
    return json.dumps({**told, "code": code, "message": message}, separators=(",", ":"))


def response() -> str:
    """It as a whole response, which is what an error file holds."""
    head = ["HTTP/1.1 503 Service Unavailable", "Content-Type: application/problem+json", "Retry-After: 1"]
    return "\r\n".join([*head, "Cache-Control: no-cache", f"Content-Length: {len(problem())}", "", problem()])


def mended(config: str, folder: Path) -> str:
    """The settings with those two pages on private unix sockets, HAProxy's own answers as problem documents, no log.

    >>> print(mended("bind 127.0.0.1:8000\\nbind :9101\\nlisten stats\\n  bind *:8404", Path("/run/k")))
    bind 127.0.0.1:8000
    bind /run/k/9101.sock mode 600
    listen stats
      bind /run/k/8404.sock mode 600
    """
    config = EVERYWHERE.sub(lambda found: f"{found[1]} {folder / found[2]}.sock mode 600", config)
    files = "".join(f"    errorfile {status} {folder}/503.http\n" for status in UNAVAILABLE)
    config = ACCESS_LOG.sub("", ERROR_FILE.sub("", config)).replace("defaults\n", "defaults\n" + PATIENCE + files, 1)
    unavailable = f"status 503 content-type application/problem+json string '{problem()}' hdr Retry-After 1"
    return NO_ROUTE.sub(lambda found: f"{found[1]} {unavailable}", config)


def tie_to_parent() -> None:
    """End with the actor that started us: a HAProxy left behind would keep the port, and answer with old routes."""
    with suppress(OSError, AttributeError):  # not Linux: what is left behind, the next start ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(binary: str, folder: Path, arguments: list[str]) -> None:
    """Mend the settings, write the pid down, become HAProxy."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        config.write_text(mended(config.read_text(encoding="utf-8"), folder), encoding="utf-8")
        (folder / "503.http").write_text(response(), encoding="ascii", newline="")
    with (folder / "haproxy.pids").open("a", encoding="utf-8") as pids:
        pids.write(f"{os.getpid()}\n")
    tie_to_parent()
    # Ctrl-C in a terminal reaches its whole process group; HAProxy ends when it is told to, after the replicas.
    # It stays in the session: Linux groups what it schedules by session, and the trainer is to stand behind it too.
    with suppress(OSError):
        os.setpgid(0, 0)
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main(os.environ["KAIROS_HAPROXY_BINARY"], Path(os.environ["KAIROS_RUN_DIR"]), sys.argv[1:])
