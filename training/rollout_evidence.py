"""What each user adds to the evidence of a rollout, and what the sums say: additive totals in, ln E of every guard out.

The running rollout and its simulation use these same functions; all of them broadcast over looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.evidence import LIFTS, Side, ratio_log_e, threshold
from training.rollout_plan import Plan
from training.sequences import above_log_e, upper_bound
from training.verdict import Standing

Floats = NDArray[np.float64]

SEEN: Final = np.dtype([
    ("user", "u8"), ("key", "u8"), ("revision", "u4"), ("stage", "u1"), ("arm", "u1"), ("label", "u1"),
    ("engaged", "u1"), ("degraded", "u1"), ("paired", "u1"), ("timed", "u1"), ("gone", "u1"),
    ("p", "f4", (2,)), ("took", "f4"),
])  # fmt: skip
"""One user as observed: a keyed number for who, what the decision was and what became of it. `p` = what champion and
challenger gave the row as served, NaN for none; `took` in µs; `arm` 1 is the challenger's. `paired` says whether the
scores count, `timed` whether `took` does, `gone` that the user has left the analysis."""

N_QUANTILES: Final = 3
SLOW_AT: Final = (0.5, 0.95, 0.99)
USERS, CONVERTED, ENGAGED, ERRORS, SLOW = 0, 2, 4, 6, 8
FAULTS, PAIRS, WORSE, WORSE_SQUARED, POSITIVES, LOSS, TILTS = 14, 15, 16, 17, 18, 19, 20
_TILT: Final = np.concatenate((np.log(np.array(LIFTS)), -np.log(np.array(LIFTS))))
N_TILTS: Final = len(_TILT)
WIDTH: Final = TILTS + 2 * N_TILTS
"""Columns of the totals; the five pairs before FAULTS (slow answers: three) are champion, challenger."""

GUARDS: Final = ("conversion", "engagement", "errors", "latency", "calibration", "log-loss", "score faults")
SCORED: Final = frozenset({"calibration", "log-loss", "score faults"})
"""Guards on the scores of a model; a campaign book has none."""
FEWEST_CONVERSIONS: Final = 30
"""Of fewer, the spread of the log-losses is not known well enough to say anything of their mean."""
CLIP: Final = 1e-6

RatioTest = Callable[[str, Floats, Floats, float, float, Side], Floats]
"""(guard, k, n, share, ratio, side) → ln E, as `training.evidence.ratio_log_e`."""


def exact(_guard: str, k: ArrayLike, n: ArrayLike, share: float, ratio: float, side: Side) -> Floats:
    """ln E of a ratio of rates; `_guard` is for tests that need not be exact far from their limit."""
    return ratio_log_e(k, n, share, ratio, side)


def contributions(seen: NDArray[np.void], slow_above: Sequence[float] | None) -> Floats:
    """What each of these users adds, shape (n, WIDTH), from records of dtype SEEN.

    `slow_above` are the champion's frozen p50, p95, p99 in µs. Subtract what was added to take a user out again.
    """
    out = np.zeros((len(seen), WIDTH))
    arm, rows = seen["arm"].astype(np.intp), np.arange(len(seen))
    p = seen["p"].astype(np.float64)
    label = seen["label"].astype(np.float64)
    known = np.isfinite(p) & (p >= 0) & (p <= 1)
    out[rows, USERS + arm] = 1
    out[rows, CONVERTED + arm] = label
    out[rows, ENGAGED + arm] = seen["engaged"]
    out[rows, ERRORS + arm] = seen["degraded"].astype(bool) | (~known[rows, arm] & known[rows, 1 - arm])
    if slow_above is not None:
        for q, limit in enumerate(slow_above):
            out[rows, SLOW + 2 * q + arm] = (seen["took"] > limit) & (seen["timed"] == 1)
    # In its own arm a missing score may be the deadline's fault: there it is an error, to be compared between arms.
    out[:, FAULTS] = known[:, 0] & ~known[:, 1] & (arm == 0)
    pair = np.flatnonzero((seen["paired"] == 1) & known.all(axis=1))
    y, both = label[pair], p[pair]
    held = np.clip(both, CLIP, 1 - CLIP)
    losses = -np.where(y[:, None] == 1, np.log(held), np.log1p(-held))
    worse = losses[:, 1] - losses[:, 0]
    out[pair, PAIRS] = 1
    out[pair, WORSE] = worse
    out[pair, WORSE_SQUARED] = worse**2
    out[pair, POSITIVES] = y
    out[pair, LOSS] = losses[:, 0]
    for which, at in ((1, TILTS), (0, TILTS + N_TILTS)):
        norm = np.log1p(both[:, which, None] * np.expm1(_TILT))
        out[pair, at : at + N_TILTS] = y[:, None] * _TILT - norm
    out[seen["gone"] == 1] = 0
    return out


@dataclass(frozen=True, slots=True)
class Readings:
    """ln E of each guard, of sample ratio and of "not worse", over all stages; arrays of the looks' shape.

    `worse` is the mean paired log-loss of challenger − champion, `worse_upper` its any-time upper bound, `allowed`
    the tolerated one, all in nats. `n_users` counts the users of the current stage.
    """

    guards: dict[str, Floats]
    srm: Floats
    not_worse: Floats
    worse: Floats
    worse_upper: Floats
    allowed: Floats
    n_users: Floats

    def standing(self, elapsed_s: float, missing: str | None, needs: tuple[bool, bool]) -> Standing:
        """The one look of scalar readings, as the verdict takes it; `needs` = (log-loss, conversion) for promotion."""
        upper = float(self.worse_upper) if needs[0] else -math.inf
        return Standing(
            elapsed_s, float(self.srm), missing, {name: float(value) for name, value in self.guards.items()},
            float(self.not_worse) if needs[1] else math.inf, upper if math.isfinite(upper) or not needs[0] else None,
            float(self.n_users),
        )  # fmt: skip


def read(
    stages: Sequence[tuple[float, Floats]], plan: Plan, *, scored: bool = True, ratio: RatioTest = exact
) -> Readings:
    """What the totals say: (share, totals of shape (WIDTH,)) of each stage so far, the last one of shape (…, WIDTH).

    Ratios are tested stage by stage at the stage's own share, and their e-values multiplied; the scores of both models
    do not depend on the share and are pooled. `scored` False leaves the guards on scores out.
    """
    names = [name for name in GUARDS if scored or name not in SCORED]
    alpha = plan.alpha / len(names)
    logs: dict[str, Floats] = {name: np.zeros(()) for name in (*names, "sample ratio", "not worse")}
    pooled: Floats = np.zeros(WIDTH)
    for share, totals in stages:
        pooled = pooled + totals
        if share > 0:
            for name, value in _of_arms(totals, share, plan, ratio).items():
                logs[name] = logs[name] + value
    if scored:
        logs["score faults"] = np.where(pooled[..., FAULTS] > plan.faults, np.inf, 0.0)
        logs["calibration"] = _calibration(pooled)
    n, positives = pooled[..., PAIRS], pooled[..., POSITIVES]
    held = np.maximum(n, 1)
    worse, allowed = pooled[..., WORSE] / held, plan.quality_margin * pooled[..., LOSS] / held
    variance = np.maximum(pooled[..., WORSE_SQUARED] / held - worse**2, 0.0)
    enough = np.minimum(positives, n - positives) >= FEWEST_CONVERSIONS
    if scored:
        walked = n * (worse - allowed)
        logs["log-loss"] = np.where(enough, above_log_e(n, walked, variance, alpha), 0.0)
    upper = np.where(enough, upper_bound(n, worse, variance, plan.alpha), np.inf)
    # Models that say the same of everybody differ by nothing, and there is no chance about it.
    upper = np.where(enough & (pooled[..., WORSE_SQUARED] <= 0), 0.0, upper)
    latest = stages[-1][1]
    return Readings(
        {name: logs[name] for name in names}, logs["sample ratio"], logs["not worse"], worse, upper, allowed,
        latest[..., USERS] + latest[..., USERS + 1],
    )  # fmt: skip


def _of_arms(totals: Floats, share: float, plan: Plan, ratio: RatioTest) -> dict[str, Floats]:
    def counts(column: int) -> tuple[Floats, Floats]:
        mine = totals[..., column + 1]
        return mine, mine + totals[..., column]

    worst, harm = 1 - plan.margin, 1 + plan.harm_margin
    slow = [ratio("latency", *counts(SLOW + 2 * q), share, harm, "above") for q in range(N_QUANTILES)]
    return {
        "conversion": ratio("conversion", *counts(CONVERTED), share, worst, "below"),
        "engagement": ratio("engagement", *counts(ENGAGED), share, worst, "below"),
        "errors": ratio("errors", *counts(ERRORS), share, harm, "above"),
        # Evidence of one hypothesis may be averaged: E stays an e-process.
        "latency": np.asarray(logsumexp(np.stack(slow, axis=-1)) - math.log(N_QUANTILES)),
        "sample ratio": ratio("sample ratio", *counts(USERS), share, 1.0, "different"),
        "not worse": ratio("not worse", *counts(CONVERTED), share, worst, "above"),
    }


def _calibration(pooled: Floats) -> Floats:
    """ln E against "the challenger's probabilities come true", less what speaks against the champion's.

    As `training.evidence.CalibrationEvidence`. Taking something away keeps it valid, and a candidate that is no
    further off than the champion is not held to be at fault for it: in a drift it is the cure.
    """
    mine, theirs = pooled[..., TILTS : TILTS + N_TILTS], pooled[..., TILTS + N_TILTS :]
    before = logsumexp(theirs) - math.log(N_TILTS)
    return np.asarray(logsumexp(mine) - math.log(N_TILTS) - np.maximum(before, 0.0))


def logsumexp(logs: Floats) -> Floats:
    """ln Σ e^x over the last axis; scipy's does more than is needed here, and takes five times as long."""
    columns = np.ascontiguousarray(np.moveaxis(logs, -1, 0))
    top = columns.max(axis=0)
    return np.asarray(top + np.log(np.exp(columns - top).sum(axis=0)))


def guard_limit(plan: Plan, *, scored: bool = True) -> float:
    """What ln E of a guard must reach to roll back: ln(M/α) for M guards."""
    n = len(GUARDS) if scored else len(GUARDS) - len(SCORED)
    return threshold(plan.alpha / n)
