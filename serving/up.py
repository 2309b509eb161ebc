"""`kairos up`: start the system, say when it is ready, run until interrupted, leave nothing behind."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress

from serving.system import System
from serving.up_options import UpOptions


def run_up(options: UpOptions) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code.

    Raises:
        engine.errors.KairosError: it could not start; nothing is left running.
    """
    return asyncio.run(_run(options))


async def _run(options: UpOptions) -> int:
    system = System(options, _progress)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    starting = asyncio.create_task(system.start())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        _progress("stopping before it was ready")
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        return 130
    starting.result()
    print(f"ready {system.url}", flush=True)
    watching = asyncio.create_task(system.watch())
    await stopped
    watching.cancel()
    _progress("stopping")
    await system.stop()
    return 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
