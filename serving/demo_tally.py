"""What the demo counts and measures, and the summary made of it; no names of visitors ever enter here."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

BUDGETS_MS: Final = {"behavioural": 300.0, "contextual": 200.0, "predictive": 400.0}
"""The seed's limits from a signal to its effect, end to end."""
WINDOW: Final = 2000
RATE_S: Final = 5.0
SIMULATED: Final = "simulated: says nothing about a real shop"


class Latency:
    """Percentiles of the last 2,000 measurements, in milliseconds."""

    def __init__(self) -> None:
        self._ms: deque[float] = deque(maxlen=WINDOW)
        self.n_missed = 0

    def add(self, ms: float | None) -> None:
        """One measurement; None where what was waited for never came."""
        if ms is None:
            self.n_missed += 1
        else:
            self._ms.append(ms)

    def __len__(self) -> int:
        return len(self._ms)

    def at(self, share: float) -> float | None:
        """The nearest-rank percentile."""
        ordered = sorted(self._ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


class Rate:
    """Things a second over the last five seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._ticks: deque[tuple[float, int]] = deque()
        self.total = 0

    def add(self, n: int) -> None:
        """Count `n` things now."""
        self._ticks.append((self._clock(), n))
        self.total += n

    def now(self) -> float:
        """The present rate."""
        now = self._clock()
        while self._ticks and self._ticks[0][0] < now - RATE_S:
            self._ticks.popleft()
        return sum(n for _, n in self._ticks) / max(1e-3, min(RATE_S, now - self._began))


@dataclass(slots=True)
class Carts:
    """Visits with a cart, and how many of them were paid for."""

    n: int = 0
    n_paid: int = 0

    def add(self, paid: bool) -> None:
        """One visit with a cart has ended."""
        self.n += 1
        self.n_paid += paid

    @property
    def text(self) -> str:
        """The share as people read it."""
        return f"{self.n_paid / self.n:.1%} of {self.n:,}" if self.n else "none yet"


@dataclass(slots=True)
class Tally:
    """All figures of a running demo."""

    clock: Callable[[], float] = time.monotonic
    events: Rate = field(init=False)
    decisions: Rate = field(init=False)
    decide: Latency = field(default_factory=Latency)
    signals: dict[str, Latency] = field(default_factory=lambda: {name: Latency() for name in BUDGETS_MS})
    offers: Counter[str] = field(default_factory=Counter)
    treated: Carts = field(default_factory=Carts)
    held_out: Carts = field(default_factory=Carts)
    degraded: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    n_present: int = 0
    n_history: int = 0
    n_shed: int = 0
    model: str = "?"
    present: dict[int, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.events, self.decisions = Rate(self.clock), Rate(self.clock)

    def decided(self, visitor: int, answer: dict[str, Any], ms: float) -> None:
        """One answer of `/v1/decide`; `visitor` is the number of a simulated shopper."""
        self.decisions.add(1)
        self.decide.add(ms)
        self.present[visitor] = list(answer.get("segments") or ())
        self.model = (answer.get("model") or {}).get("version") or self.model
        if answer.get("degraded"):
            self.degraded[str(answer["degraded"].get("reason"))] += 1
        self.offers.update(item["id"] for item in answer["items"] if item["kind"] == "offer")

    def left(self, visitor: int) -> None:
        """A simulated shopper's visit is over."""
        self.present.pop(visitor, None)

    def segments(self) -> list[tuple[str, int]]:
        """Visitors now present in each segment, as of their last decision."""
        return Counter(name for names in self.present.values() for name in names).most_common()
