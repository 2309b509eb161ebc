"""Simulated shoppers against a real Kairos: every step of the simulation becomes an HTTP request.

Time. Decisions are made by the server's real clock, so what the visitors do must happen in real time to mean
what it says. Each shopper's earlier visits are sent first, as backfill, with their true distances in the past
(days), and only the last visit is lived now. What leads up to its first decision is hurried (20 times or more) and
stamped backwards from that decision with true distances: the recency, sessions and averages that it reads are
those of an unhurried visitor. From there on, at speed 1, the visit is lived at its own pace. At speed N its pauses
are divided by N, while what browsers report in numbers (seconds on a page, hovering) stays as simulated; its
later decisions see a recency nearer to 1 than they would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from engine.simulation import Life, Send, Shown, World
from engine.simulation.steps import Ask, Reply, Step, iso
from engine.simulation.world import DAY_MS
from serving.demo_tally import Tally

MAX_PAUSE_S: Final = 40.0
"""Longer pauses (of the simulated clock) are cut short: a refund days later comes soon."""
BATCH: Final = 250
LEAD_UP_SPEED: Final = 20.0
MAX_PRESENT: Final = 3000
IN_FLIGHT: Final = 32
TOGETHER_S: Final = 0.05
"""Events of a visitor that are due this close together travel in one request."""
MEAN_HOUR: Final = 14
"""UTC hour at which the rhythm of the day is at its mean: the demo's day begins there."""


class Shop:
    """The two calls that a shop makes, counted and measured."""

    def __init__(self, client: httpx.AsyncClient, tally: Tally, in_flight: int = IN_FLIGHT) -> None:
        self._client, self._tally = client, tally
        self._free = asyncio.Semaphore(in_flight)

    async def send(self, events: list[dict[str, Any]], *, backfill: bool = False) -> bool:
        """Send events; True when they were taken."""
        path = "/v1/batch?backfill=true" if backfill else "/v1/batch"
        answer, _ = await self._post(path, {"batch": events})
        if answer is None:
            return False
        self._tally.events.add(answer.get("accepted", 0))
        for refused in answer.get("rejected", ()):
            self._tally.errors[str(refused["code"])] += 1
        return True

    async def decide(self, visitor: int, request: dict[str, Any]) -> dict[str, Any] | None:
        """Ask for a decision; None when there was no answer."""
        answer, ms = await self._post("/v1/decide", request)
        if answer is not None:
            self._tally.decided(visitor, answer, ms)
        return answer

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any] | None, float]:
        async with self._free:
            began = time.perf_counter()
            try:
                response = await self._client.post(path, json=body)
                ms = (time.perf_counter() - began) * 1000
                answer = response.json()
            except (httpx.HTTPError, ValueError) as error:
                self._tally.errors[type(error).__name__] += 1
                return None, 0.0
        if response.status_code != 200:
            self._tally.errors[f"HTTP {response.status_code} {answer.get('code', '')}".strip()] += 1
            return None, ms
        return answer, ms


class Visitor:
    """Lives one shopper's life: the past at once, the last visit in real time."""

    def __init__(self, shop: Shop, life: Life, speed: float, tally: Tally, clock: Callable[[], float]) -> None:
        self._shop, self._life, self._speed, self._tally, self._clock = shop, life, speed, tally, clock
        self._history: list[Send] = []
        self._waiting: list[tuple[int, dict[str, Any]]] = []
        self._lead_up = True
        self._step_ms = 0
        self._due_s = 0.0
        self._stamp_ms = 0
        self._in_cart = self._paid = False
        self._held_out: bool | None = None

    async def live(self) -> None:
        """All of it; ends when the visit does."""
        steps, reply, live = self._life.steps(), None, False
        number = self._life.shopper.index
        try:
            while True:
                step = steps.send(reply)
                reply = None
                if not live and step.visit < self._life.n_visits - 1:
                    if isinstance(step, Send):
                        self._history.append(step)
                    continue
                if not live:
                    live = True
                    await self._begin(step)
                reply = await self._do(step)
                # Python 3.11's wait_for, anywhere below, returns a result that is ready and forgets the cancelling.
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError
        except StopIteration:
            await self._flush(self._step_ms)
        finally:
            self._tally.left(number)
        if self._in_cart and self._held_out is not None:
            (self._tally.held_out if self._held_out else self._tally.treated).add(self._paid)

    async def _begin(self, first: Step) -> None:
        self._step_ms, self._due_s = first.t_ms, self._clock()
        shift_ms = int(self._due_s * 1000) - first.t_ms
        past = [{**s.event, "timestamp": iso(s.t_ms + shift_ms)} for s in self._history]
        self._history.clear()
        self._tally.n_history += len(past)
        for begin in range(0, len(past), BATCH):
            await self._shop.send(past[begin : begin + BATCH], backfill=True)

    async def _do(self, step: Step) -> Reply:
        pause_s = min(MAX_PAUSE_S, (step.t_ms - self._step_ms) / 1000)
        pause_s /= max(self._speed, LEAD_UP_SPEED) if self._lead_up else self._speed
        self._step_ms, self._due_s = step.t_ms, self._due_s + pause_s
        wait_s = self._due_s - self._clock()
        if wait_s > TOGETHER_S:
            if not self._lead_up:
                await self._flush(step.t_ms)
            await asyncio.sleep(wait_s)
        if isinstance(step, Ask):
            return await self._ask(step)
        self._note(step.event)
        self._stamp_ms = max(self._stamp_ms + 1, int(self._due_s * 1000))
        self._waiting.append((step.t_ms, {**step.event, "timestamp": iso(self._stamp_ms)}))
        return None

    async def _ask(self, ask: Ask) -> Reply:
        await self._flush(ask.t_ms)
        answer = await self._shop.decide(self._life.shopper.index, {**ask.request, "limit": 1})
        if answer is None:
            return None
        self._held_out = bool(self._held_out) or bool(answer.get("holdout"))
        offer = next((item["id"] for item in answer["items"] if item["kind"] == "offer"), None)
        return None if offer is None else Shown(offer, answer.get("decisionId"))

    async def _flush(self, now_ms: int) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if self._lead_up:
            # True distances before the first decision: see the module's first lines.
            self._lead_up = False
            real_ms = int(self._clock() * 1000)
            waiting = [(t, {**event, "timestamp": iso(real_ms - (now_ms - t))}) for t, event in waiting]
        await self._shop.send([event for _, event in waiting])

    def _note(self, event: dict[str, Any]) -> None:
        self._in_cart |= event.get("event") == "Product Added"
        self._paid |= event.get("event") == "Order Completed"


class Traffic:
    """New shoppers all the time, each on its own."""

    def __init__(
        self, shop: Shop, tally: Tally, world: World, *, speed: float = 1.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._shop, self._tally, self._world, self._speed, self._clock = shop, tally, world, speed, clock

    async def run(self, n_shoppers: int | None = None) -> None:
        """Until cancelled, or until so many shoppers have come and gone."""
        began = self._clock()
        start_ms = int(began * 1000) // DAY_MS * DAY_MS + MEAN_HOUR * 3_600_000
        present: set[asyncio.Task[None]] = set()
        try:
            for life in self._world.lives(start_ms):
                if n_shoppers is not None and life.shopper.index >= n_shoppers:
                    break
                wait_s = began + (life.start_ms - start_ms) / 1000 / self._speed - self._clock()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                self._tally.n_present = len(present)
                if len(present) >= MAX_PRESENT:
                    self._tally.n_shed += 1
                    continue
                visitor = Visitor(self._shop, life, self._speed, self._tally, self._clock)
                task = asyncio.get_running_loop().create_task(visitor.live())
                present.add(task)
                task.add_done_callback(present.discard)
            await asyncio.gather(*present)
        finally:
            for task in present:
                task.cancel()
            await asyncio.gather(*present, return_exceptions=True)


def world_for(seed: int, rate: float, speed: float, name: str) -> World:
    """A world in which `rate` new shoppers a real second arrive when its time runs `speed` times as fast."""
    return World(seed, per_day=rate / speed * DAY_MS / 1000, name=name)
