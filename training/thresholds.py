"""Thresholds from outcomes: precision and recall of every possible one, and the one that a wanted precision needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.errors import InvalidInput

FEWEST_SESSIONS: Final = 50
Z: Final = 1.959964


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold would find: `value` is exclusive, as `above` and `below` are. `lower` bounds the precision
    (Wilson, 95 %).
    """

    value: float
    n: int
    precision: float
    lower: float
    recall: float


def curve(scores: Sequence[float], positive: Sequence[bool]) -> list[Point]:
    """One point for each threshold that tells sessions apart, the strictest first; of each session its best score.

    ±∞ are sessions that the rest of the condition lets in or keeps out whatever the threshold. Raises InvalidInput
    `too_few_sessions`, `one_outcome`.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if len(x) < FEWEST_SESSIONS:
        raise InvalidInput("too_few_sessions", f"{len(x)} sessions with outcomes; {FEWEST_SESSIONS} are needed")
    total = int(y.sum())
    if total in (0, len(y)):
        raise InvalidInput("one_outcome", f"{total} of {len(y)} sessions have the outcome: nothing to tell apart")
    order = np.argsort(-x, kind="stable")
    x, found = x[order], np.cumsum(y[order])
    # A threshold lies below the last of equal scores, half way to the next.
    ends = np.flatnonzero(np.append(x[1:] != x[:-1], True))
    points = []
    for end in ends:
        after = x[end + 1] if end + 1 < len(x) else -math.inf
        if x[end] == -math.inf:
            break
        n, hits = int(end) + 1, int(found[end])
        points.append(Point(_between(float(x[end]), float(after)), n, hits / n, _wilson(hits, n), hits / total))
    return points


def propose(points: Sequence[Point], target_precision: float) -> Point | None:
    """The threshold of the highest recall among those that reach the precision; None where none does."""
    reached = [point for point in points if point.precision >= target_precision]
    return max(reached, key=lambda point: (point.recall, point.precision), default=None)


def standing(points: Sequence[Point], threshold: float) -> Point | None:
    """What a threshold finds now: the least strict point that is at least as strict."""
    return next((point for point in reversed(points) if point.value >= threshold), None)


def draw(points: Sequence[Point], target: float, width: int = 56, height: int = 14) -> list[str]:
    """Precision over recall in characters, with the target as a line."""
    field = [[" "] * width for _ in range(height)]

    def row_of(precision: float) -> int:
        return min(height - 1, int((1.0 - precision) * height))

    for column in range(width):
        field[row_of(target)][column] = "┄"
    for point in points:
        field[row_of(point.precision)][min(width - 1, int(point.recall * width))] = "●"
    lines = [f"{1.0 - (n + 0.5) / height:5.0%} │{''.join(line)}" for n, line in enumerate(field)]
    scale = "".join(f"{share:<{width // 4}.0%}" for share in (0.0, 0.25, 0.5, 0.75))
    return ["precision", *lines, "      └" + "─" * width, f"       {scale}recall"]


def _between(here: float, after: float) -> float:
    if math.isinf(here):
        return after if math.isfinite(after) else 0.0
    return (here + after) / 2 if math.isfinite(after) else math.nextafter(here, -math.inf)


def _wilson(hits: int, n: int) -> float:
    p, z2 = hits / n, Z * Z
    return max(0.0, (p + z2 / (2 * n) - Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n))
