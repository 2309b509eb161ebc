"""Simulated rollouts through the whole rule, looked at after every user: how often, where and when candidates end.

The users are simulated, the evidence and the verdicts are those of the running rollout. Vectorised over looks; a test
holds it against the state machine step by step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri, xlogy

from training.evidence import SRM_ALPHA, Side, challenger_share, ratio_log_e, threshold
from training.gates import judge
from training.rollout import Phase
from training.rollout_evidence import (
    CONVERTED,
    ENGAGED,
    ERRORS,
    FAULTS,
    N_QUANTILES,
    SEEN,
    SLOW,
    SLOW_AT,
    USERS,
    WIDTH,
    Floats,
    contributions,
    guard_limit,
    read,
)
from training.rollout_plan import DAY_S, Plan

N_LEVELS, N_NOISES = 24, 7
SPREAD: Final = 1.0
"""Standard deviation of the users' log-odds."""
CHUNK: Final = 10_000


@dataclass(frozen=True, slots=True)
class Shop:
    """What the traffic is like: rates of the champion, and the spread of the logarithm of its answering times."""

    users_per_day: float = 20_000
    conversion: float = 0.05
    engagement: float = 0.3
    error: float = 0.001
    took_spread: float = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """How a candidate differs from the champion; the factors are 1 for one that is equal.

    `conversion`, `engagement` and `slower` are what it does to its own arm; `scale` multiplies its probabilities;
    `noise` is the standard deviation of its log-odds about the truth, the champion's being 0.3: less is better.
    `bad_scores` is the share of its scores that are no numbers; `inverted` says p where 1 − p is meant.
    """

    name: str
    conversion: float = 1.0
    engagement: float = 1.0
    slower: float = 1.0
    scale: float = 1.0
    noise: float = 0.3
    bad_scores: float = 0.0
    inverted: bool = False


EQUAL: Final = Candidate("equal")
BAD: Final = (
    Candidate("NaN scores", bad_scores=1.0),
    Candidate("inverted", inverted=True),
    Candidate("miscalibrated × 1.25", scale=1.25),
    Candidate("1.5 × slower", slower=1.5),
    Candidate("−30 % conversion", conversion=0.7),
)
CHAMPION_NOISE: Final = 0.3


@dataclass(frozen=True, slots=True)
class Ended:
    """How one simulated rollout ended: in which stage, after how many users, and how many of them were exposed."""

    phase: Phase
    stage: str
    why: str
    users: int
    exposed: int
    days: float


def simulate(candidate: Candidate, shop: Shop, plan: Plan, seed: int) -> Ended:
    """One rollout, from its first user to its end. The same arguments give the same end."""
    dice = np.random.default_rng(seed)
    world = _world(candidate, shop)
    done: list[tuple[float, Floats]] = []
    users = exposed = 0
    per_s = shop.users_per_day / DAY_S
    for place, stage in enumerate(plan.stages):
        totals, n = np.zeros(WIDTH), 0
        n_horizon = max(1, math.ceil(stage.horizon_s * per_s))
        earliest = max(stage.minimum_users, math.ceil(stage.minimum_s * per_s), 1)
        last = place + 1 == len(plan.stages)
        ended = None
        while ended is None and n < n_horizon:
            size = min(CHUNK, n_horizon - n)
            steps = np.cumsum(world.draw(size, stage.share, dice), axis=0) + totals
            ended = _first(steps, done, stage.share, plan, earliest - n, last)
            at = size if ended is None else ended[0] + 1
            totals, n = steps[at - 1], n + at
        users, exposed = users + n, exposed + int(totals[USERS + 1])
        done.append((stage.share, totals))
        if ended is None:
            return Ended(Phase.KEPT_CHAMPION, stage.text, "horizon", users, exposed, users / shop.users_per_day)
        if ended[1] != Phase.PROMOTED or last:
            return Ended(ended[1], stage.text, ended[2], users, exposed, users / shop.users_per_day)
    raise AssertionError("a plan has a last stage")


def gate(candidate: Candidate, shop: Shop, seed: int, n_rows: int = 5000) -> str | None:
    """What the gates before any rollout say of it on this many matured rows: why it is refused, or None."""
    dice = np.random.default_rng(seed)
    world = _world(candidate, shop)
    kind = dice.integers(0, world.n_kinds, n_rows)
    y = (dice.random(n_rows) < world.truth[kind]).astype(np.float64)
    p = world.scores[kind]
    challenger = np.where(dice.random(n_rows) < candidate.bad_scores, np.nan, p[:, 1])
    return judge(y, p[:, 0], challenger).why_not


class _World:
    """The kinds of users there are, and what each adds to the scores' part of the totals."""

    def __init__(self, candidate: Candidate, shop: Shop) -> None:
        levels = SPREAD * ndtri((np.arange(N_LEVELS) + 0.5) / N_LEVELS)
        noises = ndtri((np.arange(N_NOISES) + 0.5) / N_NOISES)
        noises /= noises.std()
        base = _centre(levels, shop.conversion)
        z, old, new = (a.ravel() for a in np.meshgrid(levels + base, noises, noises, indexing="ij"))
        self.truth = expit(z)
        champion = expit(z + CHAMPION_NOISE * old)
        challenger = np.clip(expit(z + candidate.noise * new) * candidate.scale, 0.0, 1.0)
        self.scores = np.stack([champion, 1 - challenger if candidate.inverted else challenger], axis=1)
        self.n_kinds = len(z)
        self._candidate, self._shop = candidate, shop
        self._slow = self._slow_shares()
        table = np.zeros((2, 2, self.n_kinds), SEEN)
        table["paired"], table["label"][1] = 1, 1
        table["p"] = self.scores
        table["p"][:, 1, :, 1] = np.nan
        self._scored = contributions(table.ravel(), None)[:, FAULTS:]

    def _slow_shares(self) -> Floats:
        """How often champion and challenger are above the champion's frozen quantiles, shape (2, 3)."""
        shift = math.log(self._candidate.slower) / self._shop.took_spread
        limits = ndtri(np.array(SLOW_AT))
        return np.stack([_above(limits), _above(limits - shift)])

    def draw(self, n: int, share: float, dice: np.random.Generator) -> Floats:
        """What each of n users adds, shape (n, WIDTH)."""
        candidate, shop = self._candidate, self._shop
        arm = (dice.random(n) < share).astype(np.intp)
        kind = dice.integers(0, self.n_kinds, n)
        factor = np.array([1.0, candidate.conversion])[arm]
        label = (dice.random(n) < self.truth[kind] * factor).astype(np.intp)
        bad = (dice.random(n) < candidate.bad_scores).astype(np.intp) if candidate.bad_scores else np.zeros(n, np.intp)
        out, rows = np.zeros((n, WIDTH)), np.arange(n)
        out[rows, USERS + arm] = 1
        out[rows, CONVERTED + arm] = label
        out[rows, ENGAGED + arm] = dice.random(n) < shop.engagement * np.array([1.0, candidate.engagement])[arm]
        out[rows, ERRORS + arm] = (dice.random(n) < shop.error) | ((bad == 1) & (arm == 1))
        if share:
            fast = dice.random(n)
            for q in range(N_QUANTILES):
                out[rows, SLOW + 2 * q + arm] = fast < self._slow[arm, q]
        out[:, FAULTS:] = self._scored[(2 * label + bad) * self.n_kinds + kind]
        return out


@lru_cache(maxsize=32)
def _world(candidate: Candidate, shop: Shop) -> _World:
    return _World(candidate, shop)


def _centre(levels: Floats, rate: float) -> float:
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(levels + middle).mean() < rate else (low, middle)
    return float(low if rate < 1 else logit(rate))


def _above(z: Floats) -> Floats:
    return np.array([0.5 * math.erfc(v / math.sqrt(2)) for v in z])


def _first(
    steps: Floats, done: Sequence[tuple[float, Floats]], share: float, plan: Plan, earliest: int, last: bool
) -> tuple[int, Phase, str] | None:
    """The first of these looks at which the verdict is not "go on": (which, what, the guard), as `training.rollout`."""
    limit = guard_limit(plan)
    earlier = read(done, plan) if done else None

    def ratio(name: str, k: Floats, n: Floats, rho: float, r: float, side: Side) -> Floats:
        if k.ndim == 0:
            return ratio_log_e(k, n, rho, r, side)
        carried = 0.0
        if earlier is not None:
            before = {"sample ratio": earlier.srm, "not worse": earlier.not_worse, **earlier.guards}[name]
            carried = float(before)
        return screened(k, n, rho, r, side, min(limit, threshold(plan.alpha)) - carried)

    found = read([*done, (share, steps)], plan, ratio=ratio)
    invalid = found.srm >= threshold(SRM_ALPHA)
    guards = np.stack([np.broadcast_to(value, len(steps)) for value in found.guards.values()])
    harm = guards.max(axis=0) >= limit
    good: NDArray[np.bool_] = np.arange(1, len(steps) + 1) >= earliest
    if share == 0 or last:
        good = good & (found.worse_upper <= found.allowed)
    if last:
        good = good & (found.not_worse >= threshold(plan.alpha))
    any_ = np.flatnonzero(invalid | harm | good)
    if not any_.size:
        return None
    at = int(any_[0])
    if np.broadcast_to(invalid, len(steps))[at]:
        return at, Phase.ROLLED_BACK, "invalid: sample ratio"
    if harm[at]:
        return at, Phase.ROLLED_BACK, list(found.guards)[int(guards[:, at].argmax())]
    return at, Phase.PROMOTED, ""


def screened(k: Floats, n: Floats, share: float, ratio: float, side: Side, need: float) -> Floats:
    """`ratio_log_e` where it may reach `need`, elsewhere an upper bound that does not: much cheaper over many looks.

    A mixture over an alternative is at most its largest likelihood ratio: ln E ≤ n·KL(k/n ‖ θ₀) on the side of the
    alternative, ≤ 0 on the other.
    """
    theta = float(challenger_share(share, ratio))
    rest = n - k
    bound = np.where(n > 0, xlogy(k, k / np.maximum(n, 1) / theta), 0.0)
    bound = bound + np.where(n > 0, xlogy(rest, rest / np.maximum(n, 1) / (1 - theta)), 0.0)
    if side == "below":
        bound = np.where(k < theta * n, bound, 0.0)
    elif side == "above":
        bound = np.where(k > theta * n, bound, 0.0)
    # A hair above, since both are rounded.
    near = np.flatnonzero(bound >= need - 1e-6)
    if near.size:
        bound[near] = ratio_log_e(k[near], n[near], share, ratio, side)
    return np.asarray(bound)
