"""What the evidence of a canary says, in a fixed order: invalid, roll back, promote, keep the champion, go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from training.evidence import SRM_ALPHA, threshold


class Verdict(StrEnum):
    """What to do now."""

    INVALID = "invalid"
    ROLL_BACK = "roll_back"
    PROMOTE = "promote"
    KEEP_CHAMPION = "keep_champion"
    GO_ON = "go_on"


@dataclass(frozen=True, slots=True)
class Limits:
    """What was agreed beforehand. `margin` m: a challenger at (1 − m) times the champion's conversion is tolerated.

    `quality_margin` δ is in nats of log-loss; times are seconds; `alpha` is the error of all guards together.
    `minimum_users` is how many must have been observed before anything is promoted.
    """

    alpha: float = 0.05
    margin: float = 0.1
    quality_margin: float = 0.0
    minimum_s: float = 0.0
    horizon_s: float = float("inf")
    minimum_users: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known now; every `log_e` is ln E over all stages together.

    `guards` names each test of harm with its ln E. `not_worse_log_e` is ln E against "conversion is at most 1 − m
    times the champion's". `quality_upper` is the any-time upper bound of challenger − champion log-loss in nats, None
    where nothing is known. `missing` says what data is absent, if any; `n_users` is how many users were observed.
    """

    elapsed_s: float
    srm_log_e: float = 0.0
    missing: str | None = None
    guards: Mapping[str, float] = field(default_factory=dict)
    not_worse_log_e: float = 0.0
    quality_upper: float | None = None
    n_users: float = float("inf")


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict and its reason in one sentence."""

    verdict: Verdict
    why: str


def rule(standing: Standing, limits: Limits) -> Ruling:
    """The first verdict that holds: INVALID, ROLL_BACK (a guard at α/M), PROMOTE, KEEP_CHAMPION at the horizon, GO_ON.

    M guards share α (Bonferroni), so that equal arms are rolled back with probability at most α however often this is
    asked. A ln E that is NaN makes the comparison invalid. Raises InvalidInput `bad_alpha`. Source: Ville 1939;
    Lindon et al. 2022 (arXiv 2205.14762).
    """
    known = {"sample ratio": standing.srm_log_e, "conversion": standing.not_worse_log_e, **standing.guards}
    broken = sorted(name for name, value in known.items() if math.isnan(value))
    if standing.missing or broken:
        return Ruling(Verdict.INVALID, standing.missing or f"not a number: {', '.join(broken)}")
    if standing.srm_log_e >= threshold(SRM_ALPHA):
        return Ruling(Verdict.INVALID, f"users are not split as planned (ln E {standing.srm_log_e:.2f})")
    if standing.guards:
        name, worst = max(standing.guards.items(), key=lambda guard: guard[1])
        if worst >= threshold(limits.alpha / len(standing.guards)):
            return Ruling(Verdict.ROLL_BACK, f"{name} is worse than agreed (ln E {worst:.2f})")
    lacking = _lacking(standing, limits)
    if not lacking:
        return Ruling(Verdict.PROMOTE, "the model is as good, conversion is not worse than agreed")
    if standing.elapsed_s >= limits.horizon_s:
        return Ruling(Verdict.KEEP_CHAMPION, f"the horizon is reached: {lacking}")
    return Ruling(Verdict.GO_ON, lacking)


def _lacking(standing: Standing, limits: Limits) -> str:
    if standing.quality_upper is None or not standing.quality_upper <= limits.quality_margin:
        bound = "unknown" if standing.quality_upper is None else f"at most {standing.quality_upper:+.5f}"
        return f"log-loss difference {bound}, wanted at most {limits.quality_margin:+.5f}"
    if standing.not_worse_log_e < threshold(limits.alpha):
        return f"conversion may still be {limits.margin:.0%} worse (ln E {standing.not_worse_log_e:.2f})"
    if standing.n_users < limits.minimum_users:
        return f"{standing.n_users:.0f} of at least {limits.minimum_users:.0f} users are observed"
    if standing.elapsed_s < limits.minimum_s:
        return f"{limits.minimum_s - standing.elapsed_s:.0f} s of the minimum duration are left"
    return ""
