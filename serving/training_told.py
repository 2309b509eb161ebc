"""A training of the running Kairos in lines of plain text, and followed until it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from serving.remote import remote

Json = dict[str, Any]
LOOK_EVERY_S: Final = 0.5
UNDER_WAY: Final = ("queued", "running")


def follow(url: str, run_id: str, key: str | None, say: Callable[[str], None]) -> Json:
    """Look at a run until it is over, saying each step once; returns it. Raises what `serving.remote.remote` does."""
    last = ""
    while True:
        run = remote("GET", url, f"/v1/train/{run_id}", key)
        if run["state"] not in UNDER_WAY:
            return run
        line = f"{run['state']} {run['stage'] or ''} {run['share']:.0%}".replace("  ", " ")
        if line != last:
            say(line)
            last = line
        time.sleep(LOOK_EVERY_S)


def told(run: Json) -> Iterator[str]:
    """What became of it, gate by gate."""
    yield f"training    {run['runId']}: {run['target']}, {run['recipe'] or 'as seems best'} ({run['why']})"
    state = run["state"] if run["message"] is None else f"{run['state']}: {run['message']}"
    yield f"ended       {state}" + (f" ({run['reason']})" if run["reason"] else "")
    if run["nRows"]:
        yield f"rows        {run['nRows']:,}, judged against {run['champion']}"
    if run["candidate"]:
        yield f"candidate   {run['candidate']}"
    for finding in run["findings"]:
        yield f"gate        {finding['gate']} {finding['verdict']}: {finding['sentence']}"
