"""Off-policy evaluation: what a policy would have earned, from the log of another one, or a refusal with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from engine.errors import InvalidInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST_EFFECTIVE: Final = 500.0
FEWEST_EFFECTIVE_SHARE: Final = 0.01
WEIGHT_ALPHA: Final = 0.001
"""The chance that a right log is refused for its mean weight."""
WEIGHT_ROUNDING: Final = 0.01
"""A mean weight this near to 1 is always consistent: logged propensities are rounded."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean reward per decision, in the reward's unit, its standard error and its interval (lower, upper)."""

    value: float
    error: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Valuation:
    """What a policy would have earned: IPS, SNIPS and DR side by side, and whether they may be believed.

    `n` decisions, `effective` = (Σw)²/Σw² of them. `gain` is DR minus what the log earned, on the same rows; its lower
    bound is the gate. `verdict` is `"ok"` or `"refused"`, with `why` as sentences; refused figures must not be used.
    """

    n: int
    logged: float
    mean_weight: float
    mean_weight_error: float
    largest_weight: float
    effective: float
    effective_needed: float
    ips: Estimate
    snips: Estimate
    dr: Estimate
    gain: Estimate
    verdict: str
    why: tuple[str, ...]


def weights(target: Floats, propensity: Floats) -> Floats:
    """w = π(a|x) / p(a|x), both of shape (n,): of the logged action, under the new policy and the logging one.

    Raises InvalidInput `bad_propensity` unless every p is within (0, 1], `bad_target_prob` unless π is within [0, 1].
    Source: Horvitz & Thompson 1952.
    """
    if not ((propensity > 0) & (propensity <= 1)).all():
        raise InvalidInput("bad_propensity", "a propensity lies above 0 and is at most 1")
    if not ((target >= 0) & (target <= 1)).all():
        raise InvalidInput("bad_target_prob", "a probability of the new policy lies within 0 and 1")
    return np.asarray(target / propensity, dtype=np.float64)


def estimate(scores: Floats, confidence: float = 0.95) -> Estimate:
    """Mean of scores of shape (n,) with a normal interval: s/√n with s² = Σ(x−mean)²/(n−1)."""
    n = len(scores)
    value = float(scores.mean())
    error = float(scores.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    width = error * float(ndtri(0.5 + confidence / 2))
    return Estimate(value, error, value - width, value + width)


def ips(reward: Floats, w: Floats, confidence: float = 0.95) -> Estimate:
    """Inverse propensity score: mean of w·r, shapes (n,). Source: Horvitz & Thompson 1952; Dudík et al. 2014."""
    return estimate(w * reward, confidence)


def snips(reward: Floats, w: Floats, confidence: float = 0.95) -> Estimate:
    """Self-normalised IPS: Σwr/Σw, shapes (n,); the error is by the delta method, √Σ(w(r−v))²/Σw.

    NaN where every weight is 0. Source: Swaminathan & Joachims 2015; Owen 2013, ch. 9.2.
    """
    total = float(w.sum())
    if total == 0:
        return Estimate(math.nan, math.inf, -math.inf, math.inf)
    value = float((w * reward).sum()) / total
    error = math.sqrt(float(((w * (reward - value)) ** 2).sum())) / total
    width = error * float(ndtri(0.5 + confidence / 2))
    return Estimate(value, error, value - width, value + width)


def dr_scores(reward: Floats, w: Floats, q_logged: Floats, q_target: Floats) -> Floats:
    """The doubly robust score of each row, q(x, π) + w·(r − q(x, a)), shapes (n,); its mean is the estimate.

    `q_logged` is the model's reward of the logged action, `q_target` its mean under the new policy; both from models
    that did not see the row (cross-fitting). Where only x is modelled both are b(x): still unbiased with right
    propensities, since E[w|x] = 1. Source: Dudík, Langford & Li 2011; Chernozhukov et al. 2018 (cross-fitting).
    """
    return np.asarray(q_target + w * (reward - q_logged), dtype=np.float64)


def effective_size(w: Floats) -> float:
    """(Σw)²/Σw², `w` of shape (n,): equally weighted rows that say as much; 0 if all are 0. Source: Kish 1965."""
    square = float((w**2).sum())
    return float(w.sum()) ** 2 / square if square > 0 else 0.0


def value(
    reward: Floats, w: Floats, q_logged: Floats, q_target: Floats, confidence: float = 0.95
) -> Valuation:  # fmt: skip
    """Value a policy from rows of shape (n,): rewards, weights, and the reward model's predictions (see `dr_scores`).

    Refused where the mean weight is not consistent with 1 (normal test at .001, rounding of 1 % allowed), or the
    effective sample size is below max(500, 1 % of n). Raises InvalidInput `too_few_rows` below 2 rows, `bad_reward`
    for rewards that are not finite, `bad_confidence`.
    """
    if not 0 < confidence < 1:
        raise InvalidInput("bad_confidence", f"the confidence is {confidence:g}, expected a number between 0 and 1")
    if len(reward) < 2:
        raise InvalidInput("too_few_rows", f"{len(reward)} rows in the log; nothing can be valued")
    if not np.isfinite(reward).all():
        raise InvalidInput("bad_reward", "a reward is not a finite number")
    weight = estimate(w)
    effective, needed = effective_size(w), max(FEWEST_EFFECTIVE, FEWEST_EFFECTIVE_SHARE * len(w))
    why = []
    allowed = max(WEIGHT_ROUNDING, weight.error * float(ndtri(1 - WEIGHT_ALPHA / 2)))
    if abs(weight.value - 1) > allowed:
        why.append(
            f"mean weight {weight.value:.4f} is not consistent with 1 (± {allowed:.4f}): propensities or target "
            "probabilities are wrong, or the log never took actions the new policy takes"
        )
    if effective < needed:
        why.append(f"effective sample size {effective:,.1f} of {len(w):,} rows is below {needed:,.0f}")
    scores = dr_scores(reward, w, q_logged, q_target)
    return Valuation(
        len(w), float(reward.mean()), weight.value, weight.error, float(w.max()), effective, needed,
        ips(reward, w, confidence), snips(reward, w, confidence), estimate(scores, confidence),
        estimate(scores - reward, confidence), "refused" if why else "ok", tuple(why),
    )  # fmt: skip
