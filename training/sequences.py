"""Asymptotic confidence sequences: intervals for a mean, a paired difference or two arms, valid at every look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from engine.errors import InvalidInput
from training.evidence import threshold

TUNED_FOR: Final = 10_000
"""The number of observations at which intervals are tightest; to be fixed beforehand, valid whatever it is."""
FEWEST: Final = 100
"""With fewer observations nothing is claimed: the guarantee is asymptotic."""


@dataclass(slots=True)
class Running:
    """Count, mean and variance of a stream of numbers, one pass. Source: Welford 1962; Chan et al. 1979 (merging)."""

    n: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: ArrayLike) -> None:
        """Take in numbers of shape (n,) or one number. Raises InvalidInput `not_finite`; nothing is taken in then."""
        x = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if not np.isfinite(x).all():
            raise InvalidInput("not_finite", "a value is not a finite number")
        if x.size:
            self.merge(Running(float(x.size), float(x.mean()), float(((x - x.mean()) ** 2).sum())))

    def merge(self, other: Running) -> None:
        """Take in what another one saw."""
        n = self.n + other.n
        if n:
            step = other.mean - self.mean
            self.squares += other.squares + step**2 * self.n * other.n / n
            self.mean += step * other.n / n
            self.n = n

    @property
    def variance(self) -> float:
        """Σ(x−mean)²/n, as the confidence sequence takes it."""
        return self.squares / self.n if self.n else 0.0


def tuning(alpha: float, at: float = TUNED_FOR) -> float:
    """η of the normal mixture that makes the two-sided interval about tightest after `at` observations.

    Raises InvalidInput `bad_horizon`. Source: Waudby-Smith et al. (arXiv 2103.06476), appendix on choosing ρ:
    η² = (−2lnα + ln(1 − 2lnα))/t*.
    """
    level = 2 * threshold(alpha)
    if not at > 0:
        raise InvalidInput("bad_horizon", f"tuned for {at:g} observations, expected a number above 0")
    return math.sqrt((level + math.log1p(level)) / at)


def interval(running: Running, alpha: float, at: float = TUNED_FOR) -> tuple[float, float]:
    """Two-sided (lower, upper) for the mean, in the unit of the values; (−∞, ∞) below 100 observations or variance 0.

    μ̂ ± σ̂ √( 2(tη²+1)/(t²η²) · ln(√(tη²+1)/α) ). Source: Waudby-Smith et al. (arXiv 2103.06476), Theorem 2.2;
    Robbins' normal mixture, Howard et al. 2021.
    """
    grown = running.n * tuning(alpha, at) ** 2
    return _around(running, grown, math.log(math.sqrt(grown + 1) / alpha))


def bounds(running: Running, alpha: float, at: float = TUNED_FOR) -> tuple[float, float]:
    """A lower bound at α and an upper bound at α, each any-time valid alone: for one-sided decisions.

    As `interval` with ln(1 + √(tη²+1)/(2α)). Source: Waudby-Smith et al. (arXiv 2103.06476), one-sided sequence.
    """
    grown = running.n * tuning(min(2 * alpha, 0.999), at) ** 2
    return _around(running, grown, math.log1p(math.sqrt(grown + 1) / (2 * alpha)))


def _around(running: Running, grown: float, level: float) -> tuple[float, float]:
    if running.n < FEWEST or not running.variance > 0:
        return -math.inf, math.inf
    width = math.sqrt(running.variance * 2 * (grown + 1) / (running.n * grown) * level)
    return running.mean - width, running.mean + width


def mean_log_e(running: Running, mean: float, alpha: float, at: float = TUNED_FOR) -> float:
    """ln E against "the mean is `mean`"; ≥ ln(1/α) exactly where `interval` leaves `mean` out.

    −½ln(1+tη²) + η²S²/(2σ̂²(1+tη²)), S = t(μ̂ − mean); asymptotic. 0 below 100 observations or variance 0.
    Source: Robbins 1970; Waudby-Smith et al. (arXiv 2103.06476).
    """
    if running.n < FEWEST or not running.variance > 0:
        return 0.0
    eta2 = tuning(alpha, at) ** 2
    grown = running.n * eta2
    walked = running.n * (running.mean - mean)
    return -0.5 * math.log1p(grown) + eta2 * walked**2 / (2 * running.variance * (1 + grown))


def mean_above_log_e(running: Running, mean: float, alpha: float, at: float = TUNED_FOR) -> float:
    """ln E against "the mean is at most `mean`": the mixture over positive drifts; asymptotic, else as `mean_log_e`.

    ln2 − ½ln(1+tη²) + η²S²/(2σ̂²(1+tη²)) + lnΦ(ηS/(σ̂√(1+tη²))). Source: Howard et al. 2021, one-sided normal mixture.
    """
    return float(above_log_e(running.n, running.n * (running.mean - mean), running.variance, alpha, at))


def above_log_e(
    n: ArrayLike, walked: ArrayLike, variance: ArrayLike, alpha: float, at: float = TUNED_FOR
) -> NDArray[np.float64]:
    """`mean_above_log_e` of many looks at once: counts, sums of (value − mean) and variances of any one shape."""
    eta2 = tuning(min(2 * alpha, 0.999), at) ** 2
    count, sum_, spread = (np.asarray(v, dtype=np.float64) for v in (n, walked, variance))
    known = (count >= FEWEST) & (spread > 0)
    grown = count * eta2
    z = np.sqrt(eta2 / (np.where(known, spread, 1.0) * (1 + grown))) * sum_
    log_e = math.log(2) - 0.5 * np.log1p(grown) + z * z / 2 + log_ndtr(z)
    return np.asarray(np.where(known, log_e, 0.0), dtype=np.float64)


def upper_bound(
    n: ArrayLike, mean: ArrayLike, variance: ArrayLike, alpha: float, at: float = TUNED_FOR
) -> NDArray[np.float64]:
    """The upper one of `bounds` for many looks at once; ∞ below 100 observations or at variance 0."""
    count, centre, spread = (np.asarray(v, dtype=np.float64) for v in (n, mean, variance))
    known = (count >= FEWEST) & (spread > 0)
    held = np.where(known, count, 1.0)
    grown = held * tuning(min(2 * alpha, 0.999), at) ** 2
    level = np.log1p(np.sqrt(grown + 1) / (2 * alpha))
    width = np.sqrt(spread * 2 * (grown + 1) / (held * grown) * level)
    return np.asarray(np.where(known, centre + width, np.inf), dtype=np.float64)


def contrast(n: tuple[float, float], mean: tuple[float, float], variance: tuple[float, float], times: float = 1.0
             ) -> Running:  # fmt: skip
    """What two independent arms say of μ₁ − times·μ₀, as one stream of n₀+n₁ observations with the same error.

    Pairs are (champion, challenger); variances in the squared unit of the values. Its variance is
    N(σ₁²/n₁ + times²·σ₀²/n₀). Raises InvalidInput `bad_look` for a negative variance or count, or NaN. Source: the
    influence function of a difference of means, Waudby-Smith et al. (arXiv 2103.06476), §4.
    """
    given = (*n, *mean, *variance)
    if not all(math.isfinite(v) for v in given) or min(n) < 0 or min(variance) < 0:
        raise InvalidInput("bad_look", "counts and variances are finite numbers of at least 0, means are finite")
    if min(n) < 2:
        return Running()
    total = n[0] + n[1]
    squares = total * total * (variance[1] / n[1] + times**2 * variance[0] / n[0])
    # With an arm of few users the normal approximation holds no sooner than for that arm alone.
    return Running(total, mean[1] - times * mean[0], squares) if 2 * min(n) >= FEWEST else Running()
