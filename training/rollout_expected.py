"""How long a rollout can be expected to take at the traffic of now, told before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from training.evidence import challenger_share, ratio_log_e, threshold
from training.rollout_plan import DAY_S, Plan


@dataclass(frozen=True, slots=True)
class Traffic:
    """What comes by now: users seen for the first time a day, and the share of them that converts."""

    users_per_day: float
    conversion: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What an equal candidate can expect: days in each stage and in all, and whether the horizons allow it.

    `exposed_users` are those who get the challenger until then. Infinite where nobody comes by.
    """

    days: float
    stages: tuple[float, ...]
    exposed_users: float
    within_horizon: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON says it; what is infinite is null."""
        finite = [d if math.isfinite(d) else None for d in (self.days, *self.stages, self.exposed_users)]
        return {
            "days": finite[0], "stages": finite[1:-1], "exposedUsers": finite[-1], "withinHorizon": self.within_horizon,
        }  # fmt: skip


def expected(plan: Plan, traffic: Traffic) -> Expected:
    """How long a rollout of an equal candidate takes at this traffic, where the evidence grows as it does on average.

    Source: ln E of `training.evidence.ratio_log_e` at its expected counts; half of all rollouts need longer.
    """
    per_s = traffic.users_per_day / DAY_S
    days, exposed, fits = [], 0.0, True
    for i, stage in enumerate(plan.stages):
        users = float(stage.minimum_users)
        if i == len(plan.stages) - 1:
            users = max(users, _users_to_promote(plan, stage.share, traffic.conversion))
        lasts_s = max(stage.minimum_s, users / per_s if per_s > 0 else math.inf)
        fits = fits and lasts_s <= stage.horizon_s
        exposed += lasts_s * per_s * stage.share if stage.share and per_s > 0 else 0.0
        days.append(lasts_s / DAY_S)
    return Expected(sum(days), tuple(days), exposed, fits)


def _users_to_promote(plan: Plan, share: float, conversion: float) -> float:
    if not conversion > 0 or not plan.margin > 0:
        return math.inf
    low, high = 0.0, 1.0
    while _not_worse(plan, share, high) < threshold(plan.alpha):
        low, high = high, high * 2
        if high > 1e12:
            return math.inf
    while high - low > 1:
        middle = (low + high) / 2
        low, high = (middle, high) if _not_worse(plan, share, middle) < threshold(plan.alpha) else (low, middle)
    return high / conversion


def _not_worse(plan: Plan, share: float, conversions: float) -> float:
    mine = float(challenger_share(share, 1.0)) * conversions
    return float(ratio_log_e(mine, conversions, share, 1 - plan.margin, "above"))
