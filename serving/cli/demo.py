"""`kairos demo`: start the real system and let simulated shoppers use it over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from engine.errors import InvalidInput
from serving.demo import FAST, DemoOptions, run_demo

RATE, LOOP_RATE = 3.0, 5.0


def demo(
    *,
    fast: Annotated[bool, typer.Option("--fast", help=f"Visits are lived {FAST:g} times as fast.")] = False,
    rate: Annotated[float | None, typer.Option(min=0.01, help="New shoppers a second: 3, with --loop 5.")] = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="Learn, try, promote, roll back: time compressed, margins wide.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated shoppers.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="End by itself after so long.")] = None,
    url: Annotated[str | None, typer.Option(help="Drive this running Kairos instead of starting one.")] = None,
    key: Annotated[str | None, typer.Option(envvar="KAIROS_KEY", help="A key with write and decide.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the Kairos that is started.")] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where it keeps its data.")] = Path(".kairos"),
    shards: Annotated[int, typer.Option(min=1, max=1024, help="Shard actors of the Kairos that is started.")] = 2,
) -> None:
    """Watch Kairos at work: one visitor's story, then live figures, until Ctrl-C. Nobody in it is real."""
    console = Console()
    # The time tells runs apart, so that a second demo on the same data has visitors of its own.
    run = f"sim{seed}-{int(time.time()):x}"

    async def drive(base_url: str, store: str | None = None) -> None:
        speed, often = (FAST if fast or loop else 1.0), rate or (LOOP_RATE if loop else RATE)
        await run_demo(DemoOptions(base_url, key, often, seed, speed, seconds, run, store), console)

    if url is not None:
        if loop:
            raise InvalidInput("bad_demo", "--loop compresses the time of a Kairos of its own; leave --url out")
        asyncio.run(_until_interrupted(drive(url.rstrip("/"))))
    else:
        asyncio.run(_with_system(drive, port, data_dir / "demo" if loop else data_dir, shards, loop))


async def _with_system(
    drive: Callable[..., Coroutine[Any, Any, None]], port: int, data_dir: Path, shards: int, loop: bool
) -> None:
    from serving.system import System
    from serving.up_options import UpOptions

    environ, book = dict(os.environ), None
    if loop:
        from serving.demo_loop import COMPRESSED, compressed_book

        environ, book = {**environ, **COMPRESSED}, compressed_book(data_dir)
    options = UpOptions(port=port, data_dir=data_dir, n_shards=shards, book=book, environ=environ)
    system = System(options, lambda line: typer.echo(line, err=True))
    began = time.monotonic()
    if not await _until_interrupted(system.start()):
        return
    watching = asyncio.create_task(system.watch())
    try:
        typer.echo(f"ready {system.url} after {time.monotonic() - began:.0f} s")
        await _until_interrupted(drive(system.url, system.store_url if loop else None))
    finally:
        watching.cancel()
        typer.echo("stopping", err=True)
        await system.stop()


async def _until_interrupted(work: Coroutine[Any, Any, None]) -> bool:
    """Do the work until it is done or Ctrl-C comes, which is how a demo usually ends; True where it was done."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    interrupted = asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, interrupted.set)
    waiting = asyncio.create_task(interrupted.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    finally:
        waiting.cancel()
        for number in numbers:
            loop.remove_signal_handler(number)
