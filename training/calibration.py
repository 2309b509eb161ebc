"""Calibration: a monotone map from a model's probability to the observed rate, kept in the model's card."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Floats = NDArray[np.float64]
_EDGE = 1e-12


class Platt(BaseModel):
    """`sigmoid(slope · logit(p) + intercept)`. Source: Platt 1999, on log-odds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["platt"] = "platt"
    slope: float = Field(gt=0)
    intercept: float

    def one(self, p: float) -> float:
        """The calibrated probability of one."""
        p = min(max(p, _EDGE), 1 - _EDGE)
        return 1.0 / (1.0 + math.exp(-(self.slope * math.log(p / (1 - p)) + self.intercept)))

    def many(self, p: Floats) -> Floats:
        """The calibrated probabilities, shape (n,) in and out."""
        z = self.slope * _logit(p) + self.intercept
        return np.asarray(1.0 / (1.0 + np.exp(-z)), dtype=np.float64)


class Isotonic(BaseModel):
    """Straight lines between the steps of an isotonic regression; flat beyond its ends.

    Source: Zadrozny & Elkan 2002; pool-adjacent-violators. `x` rises strictly, `y` never falls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["isotonic"] = "isotonic"
    x: tuple[float, ...] = Field(min_length=1)
    y: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _monotone(self) -> Isotonic:
        rising = all(a < b for a, b in zip(self.x, self.x[1:], strict=False))
        never_falling = all(a <= b for a, b in zip(self.y, self.y[1:], strict=False))
        if len(self.x) != len(self.y) or not rising or not never_falling or self.y[0] < 0 or self.y[-1] > 1:
            raise ValueError("an isotonic calibration needs rising x and never falling y within 0–1, of one length")
        return self

    def one(self, p: float) -> float:
        """The calibrated probability of one; a third of `numpy.interp`'s time for a single value."""
        right = bisect_right(self.x, p)
        if right == 0 or right == len(self.x):
            return self.y[0 if right == 0 else -1]
        x, y = self.x[right - 1], self.y[right - 1]
        return y + (self.y[right] - y) / (self.x[right] - x) * (p - x)

    def many(self, p: Floats) -> Floats:
        """The calibrated probabilities, shape (n,) in and out."""
        return np.asarray(np.interp(p, self.x, self.y), dtype=np.float64)


Calibration = Annotated[Platt | Isotonic, Field(discriminator="kind")]
Method = Literal["none", "platt", "isotonic"]


def fit_calibration(method: Method, p: Floats, y: Floats) -> Platt | Isotonic | None:
    """Learn a calibration from probabilities of shape (n,) that the model gave rows it was not fitted on."""
    if method == "none":
        return None
    return fit_platt(p, y) if method == "platt" else fit_isotonic(p, y)


def fit_platt(p: Floats, y: Floats) -> Platt:
    """Newton's method on the log-loss of slope and intercept, with Platt's smoothed targets; `p`, `y` of shape (n,).

    Source: Lin, Lin & Weng 2007, "A note on Platt's probabilistic outputs for support vector machines".
    """
    n_positive = float(y.sum())
    n_negative = len(y) - n_positive
    target = np.where(y > 0, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    design = np.column_stack((_logit(p), np.ones(len(p))))
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        q = 1.0 / (1.0 + np.exp(-(design @ weights)))
        curvature = (design * (q * (1 - q))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (q - target))
        weights -= np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    return Platt(slope=max(float(weights[0]), 1e-3), intercept=float(weights[1]))


def fit_isotonic(p: Floats, y: Floats) -> Isotonic:
    """Pool adjacent violators, then keep the ends of each step, and never promise 0 or 1.

    Values are held within 1/(n + 2) of the ends (Laplace), so that one surprise costs finite log-loss.
    """
    from scipy.optimize import isotonic_regression

    levels, where = np.unique(p, return_inverse=True)
    counts = np.bincount(where).astype(np.float64)
    rates = np.bincount(where, weights=y) / counts
    fitted = np.asarray(isotonic_regression(rates, weights=counts).x, dtype=np.float64)
    change = np.diff(fitted) != 0
    keep = np.concatenate(([True], change)) | np.concatenate((change, [True]))
    edge = 1.0 / (len(y) + 2)
    return Isotonic(x=tuple(levels[keep].tolist()), y=tuple(np.clip(fitted[keep], edge, 1 - edge).tolist()))


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped / (1 - clipped)), dtype=np.float64)
