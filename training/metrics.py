"""How good are probabilities: ranking (AUC), log-loss, Brier score, calibration. NumPy only, pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def auc(y: Floats, p: Floats) -> float:
    """The chance that a positive ranks above a negative; ties count half. NaN unless both classes are there.

    `y` of 0/1 and `p`, both of shape (n,). Source: the Mann–Whitney statistic (Hanley & McNeil 1982).

    >>> auc(np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.1, 0.4, 0.1, 0.0]))
    0.875
    """
    n_positive = float(y.sum())
    n_negative = len(y) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, where, counts = np.unique(p, return_inverse=True, return_counts=True)
    middle_ranks = np.cumsum(counts) - (counts - 1) / 2
    above = float(middle_ranks[where][y > 0].sum()) - n_positive * (n_positive + 1) / 2
    return above / (n_positive * n_negative)


def log_loss(y: Floats, p: Floats) -> float:
    """Mean negative log-likelihood in nats; `p` is held 1e-15 away from 0 and 1. Both of shape (n,).

    Source: Good 1952, "Rational decisions".
    """
    held = np.clip(p, 1e-15, 1 - 1e-15)
    return float(-np.mean(y * np.log(held) + (1 - y) * np.log1p(-held)))


def brier(y: Floats, p: Floats) -> float:
    """Mean squared difference of probability and outcome, both of shape (n,). Source: Brier 1950."""
    return float(np.mean((p - y) ** 2))


def base_log_loss(y: Floats) -> float:
    """The log-loss of always answering the base rate of `y`, shape (n,): what a model must beat."""
    return log_loss(y, np.full(len(y), float(y.mean())))


def calibration_ratio(y: Floats, p: Floats) -> float:
    """Predicted conversions ÷ observed ones, both of shape (n,); 1 is calibrated in the large. NaN where none is."""
    observed = float(y.sum())
    return float(p.sum()) / observed if observed else float("nan")


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a calibration table: how many rows, what was predicted, what came."""

    n: int
    predicted: float
    observed: float


def calibration_bins(y: Floats, p: Floats, n_bins: int = 10) -> tuple[Bin, ...]:
    """Bins of about equal size by rising probability (equal probabilities stay together), of shape (≤ n_bins,).

    Source: Nguyen & O'Connor 2015 (equal-mass binning).
    """
    if len(p) == 0:
        return ()
    edges = np.unique(np.quantile(p, np.linspace(0, 1, n_bins + 1)[1:-1]))
    where = np.searchsorted(edges, p, side="left")
    return tuple(
        Bin(int(inside.sum()), float(p[inside].mean()), float(y[inside].mean()))
        for inside in (where == index for index in np.unique(where))
    )


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error: mean of |predicted − observed| over bins, weighted by rows (Naeini et al. 2015)."""
    n = sum(b.n for b in bins)
    return sum(b.n * abs(b.predicted - b.observed) for b in bins) / n if n else float("nan")
