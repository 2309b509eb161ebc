"""A test replayed look by look: what any-time valid evidence said each time, and when it would have stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import InvalidInput
from training.evidence import SRM_ALPHA, challenger_share, ratio_interval, ratio_log_e, srm_log_e, threshold
from training.looks import Look
from training.sequences import TUNED_FOR, Running, contrast, interval, mean_above_log_e, mean_log_e


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. Differences are challenger − champion in the metric's unit, ratios challenger ÷ champion.

    Intervals (lower, upper) are any-time valid at α. `ratio` is given for counts only. `log_e` is ln E against
    equality: the exact test of counts, else the asymptotic one of means. `rollback_log_e` and `promote_log_e` are
    against "at least" and "at most 1 − m times the champion".
    """

    look: Look
    difference: tuple[float, float]
    ratio: tuple[float, float] | None
    log_e: float
    rollback_log_e: float
    promote_log_e: float
    srm_log_e: float


@dataclass(frozen=True, slots=True)
class Stop:
    """The first look at which something was decided: its place from 1, users seen by then, and what."""

    place: int
    look: str
    users: float
    what: str


@dataclass(frozen=True, slots=True)
class Replay:
    """Every reading, and when the test of equality and the rollout's rule would have ended it (None = never)."""

    readings: tuple[Reading, ...]
    stopped: Stop | None
    rollout: Stop | None


def replay(
    looks: Sequence[Look], *, alpha: float = 0.05, margin: float = 0.1, share: float = 0.5, tuned_for: float = TUNED_FOR
) -> Replay:
    """Read looks in order; `share` is the challenger's planned share of users, `margin` the tolerated loss.

    Raises InvalidInput `bad_alpha`, `bad_share`, `bad_margin`, `bad_horizon`. Sources: `training.evidence`,
    `training.sequences`. An SRM at α = .001 comes first and makes a test invalid from there on.
    """
    if not 0 <= margin < 1:
        raise InvalidInput("bad_margin", f"the margin is {margin:g}, expected at least 0 and below 1")
    high = threshold(alpha)
    challenger_share(share, 1.0)  # refuses a share that is none
    readings = tuple(_read(look, alpha, margin, share, tuned_for) for look in looks)
    stopped = rollout = None
    for place, reading in enumerate(readings, 1):
        where = (place, reading.look.name, sum(reading.look.n))
        if reading.srm_log_e >= threshold(SRM_ALPHA):
            stopped = stopped or Stop(*where, "invalid")
            rollout = rollout or Stop(*where, "invalid")
            break
        if stopped is None and reading.log_e >= high:
            better = reading.look.mean[1] > reading.look.mean[0]
            stopped = Stop(*where, "challenger better" if better else "challenger worse")
        if rollout is None and reading.rollback_log_e >= high:
            rollout = Stop(*where, "roll back")
        if rollout is None and reading.promote_log_e >= high:
            rollout = Stop(*where, "promote")
    return Replay(readings, stopped, rollout)


def _read(look: Look, alpha: float, margin: float, share: float, tuned_for: float) -> Reading:
    plain = contrast(look.n, look.mean, look.variance)
    split = float(srm_log_e(look.n, (1 - share, share)))
    if look.events is not None:
        k, n = look.events[1], sum(look.events)
        return Reading(
            look, interval(plain, alpha, tuned_for), ratio_interval(k, n, share, alpha),
            float(ratio_log_e(k, n, share)), float(ratio_log_e(k, n, share, 1 - margin, "below")),
            float(ratio_log_e(k, n, share, 1 - margin, "above")), split,
        )  # fmt: skip
    at_margin = contrast(look.n, look.mean, look.variance, 1 - margin)
    mirrored = Running(at_margin.n, -at_margin.mean, at_margin.squares)
    return Reading(
        look, interval(plain, alpha, tuned_for), None, mean_log_e(plain, 0.0, alpha, tuned_for),
        mean_above_log_e(mirrored, 0.0, alpha, tuned_for), mean_above_log_e(at_margin, 0.0, alpha, tuned_for), split,
    )  # fmt: skip


def finite(value: float) -> float | None:
    """A number that JSON can say; None for ±∞."""
    return value if math.isfinite(value) else None
