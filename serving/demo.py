"""The demo: a real Kairos driven over HTTP by simulated shoppers, first one visitor's story, then live figures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from rich.console import Console

from actors.ending import ended
from engine.errors import KairosError, Unavailable
from serving.demo_probe import Probe
from serving.demo_story import CHAPTERS, Teller
from serving.demo_tally import Tally
from serving.demo_traffic import Shop, Traffic, world_for
from serving.demo_view import BETWEEN_S, PLAIN_S, next_steps, plain, show

FAST = 60.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo is asked to do; `seconds` None runs until it is interrupted, `run` tells runs apart."""

    url: str
    key: str | None = None
    rate: float = 3.0
    seed: int = 1
    speed: float = 1.0
    seconds: float | None = None
    run: str = "demo"
    loop_store: str | None = None
    """The store of a Kairos whose time is compressed, to show the loop of learning; None: not shown."""


async def run_demo(options: DemoOptions, console: Console, transport: httpx.AsyncBaseTransport | None = None) -> Tally:
    """Tell the story, then drive traffic until the time is over or the caller cancels.

    Raises:
        KairosError: the system cannot be reached, or cannot play this demo.
    """
    tally = Tally()
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)

    say = _sayer(console)
    async with httpx.AsyncClient(
        base_url=options.url, headers=headers, timeout=10.0, limits=limits, transport=transport
    ) as client:
        try:
            await Teller(client, options.run, say).tell()
        except httpx.TransportError as error:
            raise Unavailable("no_answer", f"{options.url}: nobody answers: {error}") from None
        say("")
        say(f"Now {options.rate:g} simulated shoppers a second, at {options.speed:g} × their own pace.")
        footer = next_steps(options.url)
        for line in footer:
            say(line)
        say("")
        last = await _drive(client, options, tally, console, footer)
    if not console.is_terminal:
        for line in last:
            say(line)
    return tally


def _sayer(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)


async def _drive(
    client: httpx.AsyncClient, options: DemoOptions, tally: Tally, console: Console, footer: list[str]
) -> list[str]:
    """Run everything side by side; returns the figures of the last moment, before the visitors are sent home."""
    world = world_for(options.seed, options.rate, options.speed, options.run)
    traffic = Traffic(Shop(client, tally), tally, world, speed=options.speed)
    probe = Probe(client, tally, CHAPTERS[0][0], options.run)
    plain_s = PLAIN_S if options.loop_store is None else BETWEEN_S
    works = [traffic.run(), probe.run(), show(tally, console, footer, plain_s)]
    if options.loop_store is not None:
        # Its fitting needs the trainer's libraries, which nobody else here should load.
        from serving.demo_loop import PREFACE, Loop

        for line in PREFACE:
            _sayer(console)(line)
        works.append(Loop(client, options.loop_store, _sayer(console)).tell())
    running = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(running, timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return list(plain(tally))
    finally:
        await ended(*running)


__all__ = ["FAST", "DemoOptions", "KairosError", "run_demo"]
