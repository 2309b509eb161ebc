"""Columns that are too good: likely known only after the outcome, or made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.fit import Parameters
from training.holdout import Plan, predict_held_out
from training.metrics import auc
from training.table import Table

Floats = NDArray[np.float64]

STRONG: Final = 0.75
"""The AUC of one column alone from which it is looked at more closely."""
PERFECT: Final = 0.95
"""The AUC of one column alone that no honest column has."""
DOMINANT: Final = 0.5
"""The share of all gain from which a column is looked at, and …"""
COLLAPSE: Final = 0.1
"""… the AUC the others must lack without it for it to be reported."""
CERTAIN: Final = 0.99
"""The rate of conversions in a bin that says that the column was written with the outcome."""
_CERTAIN_ROWS: Final = 30
_N_BINS: Final = 32
_PRIOR_ROWS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Leak:
    """A column suspected of leakage, with the figures behind it."""

    column: str
    auc_alone: float
    auc_of_others: float
    gain_share: float
    certain: bool = False

    def sentence(self) -> str:
        """What a person should know before trusting the model."""
        if self.certain:
            return (
                f"column {self.column!r} has values with which nearly every row converts, as if it were written "
                f"with the outcome. If so, train again without it (--drop {self.column})"
            )
        return (
            f"column {self.column!r} alone ranks conversions with AUC {self.auc_alone:.3f} (all unsuspected columns "
            f"together: {self.auc_of_others:.3f}; its share of the gain: {self.gain_share:.0%}). If it is known only "
            f"after the outcome, the figures here are too good: train again without it (--drop {self.column})"
        )


def find_leaks(table: Table, parameters: Parameters, plan: Plan, auc_of_all: float, gain: Floats) -> tuple[Leak, ...]:
    """Columns that alone do as well as all unsuspected columns together, or without which the model collapses.

    `auc_of_all` and `gain` (shares, shape (n_features,)) belong to the model over all columns; the others are
    measured on the same plan. Strongest first.
    """
    alone = np.array([column_auc(table.x[:, index], table.y, name in table.categorical)
                      for index, name in enumerate(table.features)])  # fmt: skip
    suspects = np.flatnonzero((alone >= STRONG) | ((gain >= DOMINANT) & (auc_of_all >= STRONG)))
    sure = [
        Leak(name, float(alone[index]), auc_of_all, float(gain[index]), certain=True)
        for index, name in enumerate(table.features)
        if index not in suspects and is_certain(table.x[:, index], table.y, name in table.categorical)
    ]
    if len(suspects) == 0:
        return tuple(sure)
    names = [table.features[index] for index in suspects]
    rest = table.without(names)
    of_others = 0.5
    if rest.x.shape[1] and not np.isnan(rest.x).all():
        held = plan.fold >= 0
        of_others = auc(table.y[held], predict_held_out(rest, parameters, plan)[held])
    leaks = [
        Leak(table.features[index], float(alone[index]), of_others, float(gain[index]))
        for index in suspects
        if alone[index] >= max(STRONG, of_others)
        or (gain[index] >= DOMINANT and auc_of_all - of_others >= COLLAPSE)
        or alone[index] >= PERFECT
    ]
    return (*sorted(leaks, key=lambda leak: -leak.auc_alone), *sure)


def column_auc(x: Floats, y: Floats, categorical: bool = False) -> float:
    """How well one column alone ranks, `x` and `y` of shape (n,): any shape of dependence, missing values included.

    Each bin (32 quantiles, or each code; missing is a bin) is scored by the rate of conversions in the *other* half of
    the rows, smoothed by ten rows of the base rate; the AUC is over both halves, so that many codes are no advantage.
    """
    where = _bins(x, categorical)
    half = np.arange(len(x)) % 2
    for label in (0.0, 1.0):  # alternate within each class: both halves see both
        rows = np.flatnonzero(y == label)
        half[rows] = np.arange(len(rows)) % 2
    n_bins, rate = int(where.max()) + 1, float(y.mean())
    scores = np.empty(len(x))
    for own in (0, 1):
        others = half != own
        n = np.bincount(where[others], minlength=n_bins)
        conversions = np.bincount(where[others], weights=y[others], minlength=n_bins)
        scores[~others] = ((conversions + _PRIOR_ROWS * rate) / (n + _PRIOR_ROWS))[where[~others]]
    return float(np.mean([auc(y[half == own], scores[half == own]) for own in (0, 1)]))


def is_certain(x: Floats, y: Floats, categorical: bool = False) -> bool:
    """Whether some bin of at least 30 rows converts to 99 %, where fewer than half of all rows do."""
    where = _bins(x, categorical)
    n, conversions = np.bincount(where), np.bincount(where, weights=y)
    return bool(y.mean() < 0.5 and ((n >= _CERTAIN_ROWS) & (conversions >= CERTAIN * n)).any())


def _bins(x: Floats, categorical: bool) -> NDArray[np.int64]:
    """The bin of each value: 0 = missing, then codes or 32 quantiles (equal values stay together)."""
    known = ~np.isnan(x)
    where = np.zeros(len(x), dtype=np.int64)
    if categorical:
        where[known] = 1 + np.unique(x[known], return_inverse=True)[1]
    elif known.any():
        edges = np.unique(np.quantile(x[known], np.linspace(0, 1, _N_BINS + 1)[1:-1]))
        where[known] = 1 + np.searchsorted(edges, x[known], side="left")
    return where
