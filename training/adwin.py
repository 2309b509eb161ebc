"""ADWIN: a window over a stream of numbers that forgets the past as soon as its mean is provably another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

Change = Literal["rose", "fell"]

_BUCKETS_A_LEVEL: Final = 5
_SMALLEST_PART: Final = 5
_WARM_UP: Final = 32


@dataclass(slots=True)
class _Bucket:
    """`size` values summed up; `spread` is their sum of squared deviations from their own mean."""

    size: int
    total: float
    spread: float


class Adwin:
    """Adaptive windowing over values in [0, 1], in memory of O(log width).

    A cut of the window into an old and a new part is a change when their means differ by more than
    ε = √(2/m · σ² · ln(2 ln n/δ)) + 2/(3m) · ln(2 ln n/δ), with 1/m the sum of 1/size over both parts, n the width
    and σ² the variance of the whole. `delta` is the chance of a false change at one check.

    Source: Bifet & Gavaldà 2007, "Learning from time-changing data with adaptive windowing" (ADWIN2, its
    exponential histogram with at most five buckets a level, and its bound for practical use). Theirs drops one oldest
    bucket at a time; here all that is older than the clearest cut goes at once, so that one shift is one alarm.
    """

    def __init__(self, delta: float = 0.002, clock: int = 32) -> None:
        self.delta = delta
        self._clock = clock
        self._levels: list[list[_Bucket]] = [[]]  # level i holds buckets of 2^i values, the oldest first
        self._whole = _Bucket(0, 0.0, 0.0)
        self._seen = 0

    @property
    def width(self) -> int:
        """How many values the window holds: the newest ones, of one and the same mean as far as can be told."""
        return self._whole.size

    @property
    def mean(self) -> float:
        """The mean over the window; NaN while it is empty."""
        return self._whole.total / self._whole.size if self._whole.size else math.nan

    def observe(self, value: float) -> Change | None:
        """Take one value of [0, 1]; says whether the mean rose or fell, looked at once every `clock` values."""
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{value} is not in [0, 1]")
        self._levels[0].append(_Bucket(1, value, 0.0))
        self._whole = _joined(self._whole, self._levels[0][-1])
        self._compress()
        self._seen += 1
        return self._shrink() if self._seen % self._clock == 0 and self.width > _WARM_UP else None

    def _compress(self) -> None:
        for depth, level in enumerate(self._levels):
            if len(level) <= _BUCKETS_A_LEVEL:
                return
            if depth + 1 == len(self._levels):
                self._levels.append([])
            self._levels[depth + 1].append(_joined(level.pop(0), level.pop(0)))

    def _shrink(self) -> Change | None:
        """Drop what is older than the clearest cut for as long as there is one; the direction is that of the first."""
        change: Change | None = None
        while (cut := self._cut()) is not None:
            difference, n_older = cut
            change = change or ("rose" if difference > 0 else "fell")
            kept = self.width - n_older
            while self.width > kept:
                level = next(level for level in reversed(self._levels) if level)
                self._whole = _without(self._whole, level.pop(0))
            while len(self._levels) > 1 and not self._levels[-1]:
                self._levels.pop()
        return change

    def _cut(self) -> tuple[float, int] | None:
        """The cut whose means differ by most in terms of its bound, as (new mean − old mean, size of the old part)."""
        n = self.width
        if n < 2 * _SMALLEST_PART:
            return None
        log_term = math.log(2.0 * math.log(n) / self.delta)
        variance = self._whole.spread / n
        old_n, old_total, clearest = 0, 0.0, 1.0
        found: tuple[float, int] | None = None
        for bucket in (bucket for level in reversed(self._levels) for bucket in level):
            old_n += bucket.size
            old_total += bucket.total
            new_n = n - old_n
            if new_n < _SMALLEST_PART:
                break
            if old_n < _SMALLEST_PART:
                continue
            difference = (self._whole.total - old_total) / new_n - old_total / old_n
            inverse = 1.0 / old_n + 1.0 / new_n
            bound = math.sqrt(2.0 * inverse * variance * log_term) + 2.0 / 3.0 * inverse * log_term
            if abs(difference) > clearest * bound:
                clearest, found = abs(difference) / bound, (difference, old_n)
        return found


def _joined(a: _Bucket, b: _Bucket) -> _Bucket:
    """Two buckets as one. Source: Chan, Golub & LeVeque 1979 (joining sums of squared deviations)."""
    size = a.size + b.size
    between = 0.0
    if a.size and b.size:
        between = (a.total / a.size - b.total / b.size) ** 2 * a.size * b.size / size
    return _Bucket(size, a.total + b.total, a.spread + b.spread + between)


def _without(whole: _Bucket, part: _Bucket) -> _Bucket:
    """What is left of a bucket when a part of it is taken out: `_joined` the other way round."""
    size, total = whole.size - part.size, whole.total - part.total
    if size == 0:
        return _Bucket(0, 0.0, 0.0)
    between = (total / size - part.total / part.size) ** 2 * size * part.size / whole.size
    return _Bucket(size, total, max(0.0, whole.spread - part.spread - between))
