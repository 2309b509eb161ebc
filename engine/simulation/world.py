"""The world: shoppers arrive with the rhythm of the day, live their visits, and never mind the real clock."""

from __future__ import annotations

import heapq
import math
from collections.abc import Generator, Iterator

import numpy as np

from engine.simulation.shopper import Shopper, draw_shopper
from engine.simulation.steps import Reply, Step
from engine.simulation.truth import Truth
from engine.simulation.visit import Visit

DAY_MS = 86_400_000
PEAK_HOUR = 20.0
RHYTHM = 0.7
"""How far the arrival rate swings around its mean over a day (UTC), highest at `PEAK_HOUR`."""


class Life:
    """All visits of one shopper, from the first arrival at `start_ms` on; `n_visits` of them, days apart."""

    def __init__(self, truth: Truth, name: str, seed: int, index: int, *, start_ms: int) -> None:
        self._truth = truth
        # Dice of one's own, so that no shopper's fate depends on who else is served first.
        self._rng = np.random.default_rng([seed, index])
        self.start_ms = start_ms
        self.shopper: Shopper = draw_shopper(truth, index, name, self._rng)
        self.n_visits = 1
        while self.n_visits < truth.max_visits and self._rng.random() < truth.return_share:
            self.n_visits += 1

    def steps(self) -> Generator[Step, Reply, None]:
        """Everything this shopper does, in order of time; answer each `Ask` by `.send(offer or None)`."""
        t_ms, refunds = self.start_ms, list[tuple[int, Visit]]()
        for number in range(self.n_visits):
            for due in [r for r in refunds if r[0] <= t_ms]:
                refunds.remove(due)
                yield self._refund(due)
            visit = Visit(self._truth, self.shopper, number, start_ms=t_ms, rng=self._rng)
            yield from visit.steps()
            if visit.refund_ms is not None:
                refunds.append((visit.refund_ms, visit))
            t_ms = visit.t_ms + int((0.1 + self._rng.gamma(2.0, 1.0)) * DAY_MS)
        for due in sorted(refunds, key=lambda r: r[0]):
            yield self._refund(due)

    @staticmethod
    def _refund(due: tuple[int, Visit]) -> Step:
        t_ms, visit = due
        visit.t_ms = t_ms
        return visit.refund()


class World:
    """A shop's visitors, wholly determined by `seed` (and by the offers they are shown).

    Args:
        seed: of every die in it.
        truth: the hidden parameters.
        per_day: mean number of new shoppers a day.
        name: begins every id, so that two runs against one system do not meet.
    """

    def __init__(
        self, seed: int, truth: Truth | None = None, *, per_day: float = 2000.0, name: str | None = None
    ) -> None:
        self.seed, self.truth, self.per_day = seed, truth or Truth(), per_day
        self.name = name if name is not None else f"sim{seed}"

    def lives(self, start_ms: int) -> Iterator[Life]:
        """New shoppers without end, in order of arrival: a Poisson process with the rhythm of the day."""
        rng = np.random.default_rng([self.seed, 0, 1])
        t, peak, index = float(start_ms), self.per_day * (1 + RHYTHM) / DAY_MS, 0
        while True:
            t += rng.exponential(1 / peak)
            if rng.random() * (1 + RHYTHM) < rhythm(t):
                yield Life(self.truth, self.name, self.seed, index, start_ms=int(t))
                index += 1

    def steps(self, start_ms: int, n_shoppers: int | None = None) -> Generator[Step, Reply, None]:
        """Every shopper's steps merged in order of time; ends only where `n_shoppers` is given.

        Answer an `Ask` by `.send(offer or None)`; a plain `for` loop shows nobody an offer.
        """
        arrivals = self.lives(start_ms)
        left = math.inf if n_shoppers is None else n_shoppers
        pending: list[tuple[int, int, Step, Generator[Step, Reply, None]]] = []
        arrival = next(arrivals) if left > 0 else None
        while pending or arrival is not None:
            while arrival is not None and (not pending or arrival.start_ms <= pending[0][0]):
                _push(pending, arrival.shopper.index, arrival.steps(), None)
                left -= 1
                arrival = next(arrivals) if left > 0 else None
            _, index, step, life = heapq.heappop(pending)
            reply = yield step
            _push(pending, index, life, reply)


def rhythm(t_ms: float) -> float:
    """The arrival rate at a time of day, relative to the day's mean."""
    hour = t_ms % DAY_MS / 3_600_000
    return 1 + RHYTHM * math.cos((hour - PEAK_HOUR) / 24 * 2 * math.pi)


def _push(
    pending: list[tuple[int, int, Step, Generator[Step, Reply, None]]],
    index: int,
    life: Generator[Step, Reply, None],
    reply: Reply,
) -> None:
    # `send(None)` starts a fresh generator and equals `next` on a running one.
    try:
        step = life.send(reply)
    except StopIteration:
        return
    heapq.heappush(pending, (step.t_ms, index, step, life))
