"""`kairos demo`: start the real system and let simulated shoppers use it over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serving.demo import FAST, DemoOptions, run_demo


def demo(
    *,
    fast: Annotated[bool, typer.Option("--fast", help=f"Visits are lived {FAST:g} times as fast.")] = False,
    rate: Annotated[float, typer.Option(min=0.01, help="New shoppers a second.")] = 3.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated shoppers.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="End by itself after so long.")] = None,
    url: Annotated[str | None, typer.Option(help="Drive this running Kairos instead of starting one.")] = None,
    key: Annotated[str | None, typer.Option(envvar="KAIROS_KEY", help="A key with write and decide.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the Kairos that is started.")] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where it keeps its data.")] = Path(".kairos"),
    shards: Annotated[int, typer.Option(min=1, help="Shard actors of the Kairos that is started.")] = 2,
) -> None:
    """Watch Kairos at work: one visitor's story, then live figures, until Ctrl-C. Nobody in it is real."""
    console = Console()
    try:
        with _system(url, port, data_dir, shards) as base_url:
            # The time tells runs apart, so that a second demo on the same data has visitors of its own.
            run = f"sim{seed}-{int(time.time()):x}"
            options = DemoOptions(base_url, key, rate, seed, FAST if fast else 1.0, seconds, run)
            asyncio.run(run_demo(options, console))
    except KeyboardInterrupt:
        console.print("stopped")


@contextmanager
def _system(url: str | None, port: int, data_dir: Path, shards: int) -> Iterator[str]:
    if url is not None:
        yield url.rstrip("/")
        return
    from serving.up import UpOptions, start_system

    system = start_system(UpOptions(port=port, data_dir=data_dir, n_shards=shards))
    try:
        yield system.base_url
    finally:
        system.stop()
