"""Any-time valid evidence on counts: conversions between two arms, the split of the traffic, calibration.

Each function gives ln E of an e-process: under its hypothesis E is a non-negative supermartingale that starts at 1, so
by Ville's inequality P(ever ln E ≥ ln(1/α)) ≤ α, however often one looks. All work on running totals, not increments,
and broadcast over arrays. E-values of the same hypothesis from separate users multiply: add their logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betainc, betaln, gammaln, logsumexp, xlog1py, xlogy

from engine.errors import InvalidInput

Floats = NDArray[np.float64]
Side = Literal["different", "below", "above"]

PRIOR_EVENTS: Final = 100.0
"""How many events the mixture is worth: larger finds small differences sooner and large ones later."""
SRM_ALPHA: Final = 0.001
LIFTS: Final = (1.1, 1.25, 1.5, 2.0)
"""By which factors of the odds the calibration test supposes a model may be off, in both directions."""


def threshold(alpha: float) -> float:
    """ln(1/α), what ln E must reach. Raises InvalidInput `bad_alpha` unless 0 < α < 1."""
    if not 0 < alpha < 1:
        raise InvalidInput("bad_alpha", f"alpha is {alpha:g}, expected a number between 0 and 1")
    return -math.log(alpha)


def challenger_share(share: float, ratio: ArrayLike) -> Floats:
    """θ(r) = ρr/(1−ρ+ρr): which share of all events is the challenger's when its rate is r times the champion's.

    Raises InvalidInput `bad_share` unless 0 < ρ < 1, `bad_ratio` unless every r > 0. Source: Lindon & Malek 2022.

    >>> float(challenger_share(0.5, 1.0)), float(challenger_share(0.2, 4.0))
    (0.5, 0.5)
    """
    r = np.asarray(ratio, dtype=np.float64)
    if not 0 < share < 1:
        raise InvalidInput("bad_share", f"the challenger's share is {share:g}, expected a number between 0 and 1")
    if not (r > 0).all():
        raise InvalidInput("bad_ratio", "a ratio of rates is above 0")
    return np.asarray(share * r / (1 - share + share * r), dtype=np.float64)


def ratio_log_e(k: ArrayLike, n: ArrayLike, share: float, ratio: float = 1.0, side: Side = "different") -> Floats:
    """ln E against "the challenger's rate is `ratio` times the champion's", from `k` of `n` events being its own.

    `side="different"` doubts equality; `"below"` doubts "at least `ratio`" (rollback, with 1 − m); `"above"` doubts
    "at most `ratio`" (promotion, with 1 − m; harm such as errors or slow answers, with 1 + m). `k`, `n` of any one
    shape, events so far; `share` = ρ, the challenger's share of users, fixed beforehand. Returns ln E, that shape.

    lnE = lnB(a+k, b+n−k) − lnB(a, b) − k·lnθ₀ − (n−k)·ln(1−θ₀), a, b = 100ρ, 100(1−ρ); one-sided, the Beta mixture is
    truncated at θ₀: + ln I_θ₀(a+k, b+n−k) − ln I_θ₀(a, b), or 1 − I. Raises InvalidInput `bad_counts`, `bad_share`,
    `bad_ratio`. Source: Lindon & Malek 2022 (arXiv 2011.03567); truncated mixtures: Howard et al. 2021, §3.

    >>> round(float(ratio_log_e(40, 100, 0.5)), 3)
    0.659
    """
    theta = float(challenger_share(share, ratio))
    mine, of = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64))
    if not ((mine >= 0) & (mine <= of) & np.isfinite(of)).all():
        raise InvalidInput("bad_counts", "the challenger's events lie between 0 and all events")
    a, b = PRIOR_EVENTS * share, PRIOR_EVENTS * (1 - share)
    log_e = betaln(a + mine, b + of - mine) - betaln(a, b) - xlogy(mine, theta) - xlog1py(of - mine, -theta)
    if side == "below":
        log_e = log_e + log_beta_cdf(theta, a + mine, b + of - mine) - log_beta_cdf(theta, a, b)
    elif side == "above":
        log_e = log_e + log_beta_cdf(1 - theta, b + of - mine, a + mine) - log_beta_cdf(1 - theta, b, a)
    return np.asarray(log_e, dtype=np.float64)


def ratio_interval(k: float, n: float, share: float, alpha: float) -> tuple[float, float]:
    """Every ratio of rates not yet refuted at α: (lower, upper), any-time valid; (0, ∞) where nothing is known.

    `k` of `n` events are the challenger's. The set {r: ln E_r < ln(1/α)} is an interval, since ln E is convex in θ₀
    with its minimum at k/n. Raises as `ratio_log_e`. Source: Lindon & Malek 2022, inverting the test.
    """
    high = threshold(alpha)
    ratio_log_e(k, n, share)
    if n == 0:
        return 0.0, math.inf
    a, b = PRIOR_EVENTS * share, PRIOR_EVENTS * (1 - share)
    known = float(betaln(a + k, b + n - k) - betaln(a, b))

    def excess(logit: float) -> float:
        return float(known + k * np.logaddexp(0.0, -logit) + (n - k) * np.logaddexp(0.0, logit) - high)

    middle = math.log(max(k, 1e-9) / max(n - k, 1e-9))
    base = math.log((1 - share) / share)
    # In logits: ln r = logit θ₀ − logit ρ. Beyond ±60 no count of users reaches.
    low = brentq(excess, -60.0, middle, xtol=1e-12) if k > 0 and excess(-60.0) > 0 else -math.inf
    top = brentq(excess, middle, 60.0, xtol=1e-12) if k < n and excess(60.0) > 0 else math.inf
    return math.exp(low + base), math.exp(top + base) if top < math.inf else math.inf


def share_interval(k: float, n: float, alpha: float) -> tuple[float, float]:
    """Every share not yet refuted at α by `k` of `n` users who did it: (lower, upper), valid at every look.

    lnE(p) = lnB(1+k, 1+n−k) − k·ln p − (n−k)·ln(1−p), mixed over all shares alike; convex, least at k/n. Exact: it
    supposes nothing of how many there are. Raises InvalidInput `bad_counts`. Source: Robbins 1970; Howard et al. 2021.

    >>> share_interval(0, 0, 0.05)
    (0.0, 1.0)
    >>> [round(x, 3) for x in share_interval(11, 93, 0.05)]
    [0.037, 0.257]
    """
    high = threshold(alpha)
    if not 0 <= k <= n or not math.isfinite(n):
        raise InvalidInput("bad_counts", "those who did it lie between 0 and all")
    known = float(betaln(1 + k, 1 + n - k))

    def excess(logit: float) -> float:
        return float(known + k * np.logaddexp(0.0, -logit) + (n - k) * np.logaddexp(0.0, logit) - high)

    # Beyond logits of ±60 no count of users reaches.
    middle = math.log(max(k, 1e-9) / max(n - k, 1e-9)) if n else 0.0
    low = brentq(excess, -60.0, middle, xtol=1e-12) if k > 0 and excess(-60.0) > 0 else -math.inf
    top = brentq(excess, middle, 60.0, xtol=1e-12) if k < n and excess(60.0) > 0 else math.inf
    return (1 / (1 + math.exp(-low)) if k > 0 and low > -math.inf else 0.0), 1 / (1 + math.exp(-top))


def srm_log_e(counts: ArrayLike, shares: Sequence[float]) -> Floats:
    """ln E against "users are split as planned" (sample-ratio mismatch), from users per arm so far.

    `counts` of shape (…, n_arms), users; `shares` of shape (n_arms,), > 0 with sum 1. Returns shape (…). The Dirichlet
    mixture of 100·shares against the planned point; with two arms it is `ratio_log_e(k, n, ρ)`. Decide at α = .001.
    Raises InvalidInput `one_arm`, `bad_shares`, `bad_counts`. Source: Lindon & Malek 2022 (arXiv 2011.03567).
    """
    users, plan = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if plan.size < 2:
        raise InvalidInput("one_arm", "a split needs at least two arms")
    if not (plan > 0).all() or abs(plan.sum() - 1) > 1e-9:
        raise InvalidInput("bad_shares", f"planned shares are above 0 and add up to 1; found {plan.tolist()}")
    if users.shape[-1] != plan.size or not ((users >= 0) & np.isfinite(users)).all():
        raise InvalidInput("bad_counts", f"expected {plan.size} counts of users, none below 0")
    alpha = PRIOR_EVENTS * plan
    mixture = gammaln(alpha + users).sum(axis=-1) - gammaln(PRIOR_EVENTS + users.sum(axis=-1))
    start = gammaln(alpha).sum() - gammaln(PRIOR_EVENTS)
    return np.asarray(mixture - start - (users * np.log(plan)).sum(axis=-1), dtype=np.float64)


class CalibrationEvidence:
    """E-process against "the outcomes come with the probabilities the model said"; add one observation a user.

    E = mean over λ = ±ln{1.1, 1.25, 1.5, 2} of Π e^{λy}/(1−p+p·e^λ), each λ being outcomes at e^λ times the said odds.
    Source: exponential tilting, a test martingale (Ramdas, Grünwald, Vovk & Shafer 2023, §2).
    """

    def __init__(self, log_products: Sequence[float] | None = None) -> None:
        up = np.log(np.array(LIFTS))
        self._tilts = np.concatenate((up, -up))
        self._logs = np.zeros(len(self._tilts)) if log_products is None else np.array(log_products, dtype=np.float64)

    def add(self, p: ArrayLike, y: ArrayLike) -> None:
        """Take in probabilities `p` within 0–1 and outcomes `y` of 0/1, both of shape (n,) or single numbers.

        Raises InvalidInput `bad_probability` or `bad_outcome`; NaN is neither. Nothing is taken in then.
        """
        said, came = np.atleast_1d(np.asarray(p, dtype=np.float64)), np.atleast_1d(np.asarray(y, dtype=np.float64))
        if not ((said >= 0) & (said <= 1)).all():
            raise InvalidInput("bad_probability", "a probability lies within 0 and 1")
        if not np.isin(came, (0.0, 1.0)).all():
            raise InvalidInput("bad_outcome", "an outcome is 0 or 1")
        norm = np.log1p(said[:, None] * np.expm1(self._tilts))
        self._logs += (came[:, None] * self._tilts - norm).sum(axis=0)

    def log_e(self) -> float:
        """ln E so far; 0 before the first observation."""
        return float(logsumexp(self._logs) - math.log(len(self._logs)))

    def direction(self) -> str:
        """Where the evidence points: `"low"` when outcomes come more often than said, else `"high"`."""
        half = len(self._logs) // 2
        return "low" if logsumexp(self._logs[:half]) > logsumexp(self._logs[half:]) else "high"

    def snapshot(self) -> list[float]:
        """The log-products, shape (8,), from which an equal one is made anew."""
        return [float(value) for value in self._logs]


def log_beta_cdf(x: float, a: ArrayLike, b: ArrayLike) -> Floats:
    """ln I_x(a, b), also where I underflows; 0 < x < 1, `a` and `b` above 0 of any one shape.

    Source: regularised incomplete beta function, its continued fraction DLMF 8.17.22 in the far lower tail.
    """
    left, right = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    plain = np.asarray(betainc(left, right, x), dtype=np.float64)
    tiny = plain < 1e-280
    out = np.log(np.where(tiny, 1.0, plain))
    if tiny.any():
        out = np.where(tiny, 0.0, out)
        out[tiny] = _log_tail(x, left[tiny], right[tiny])
    return np.asarray(out, dtype=np.float64)


def _log_tail(x: float, a: Floats, b: Floats) -> Floats:
    fraction = np.ones_like(a)
    # Backwards from a depth at which the fraction no longer moves: x lies far below the mean a/(a+b) here.
    for m in range(200, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        fraction = 1 + even / (1 + odd / fraction)
    first = 1 - (a + b) * x / (a + 1) / fraction
    return np.asarray(a * math.log(x) + b * math.log1p(-x) - np.log(a) - betaln(a, b) - np.log(first), dtype=np.float64)
