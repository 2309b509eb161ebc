"""Columns that are too good: likely known only after the outcome, or made from it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.fit import Parameters
from training.holdout import Plan, predict_held_out, stratified
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
CHANCE: Final = 1e-6
"""The probability, by what the other columns say, below which so many conversions are no coincidence."""
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

    @property
    def sure(self) -> bool:
        """Whether no honest column looks like this, so that the model must answer nobody."""
        return self.certain or self.auc_alone >= PERFECT

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
    names = [table.features[index] for index in suspects]
    sure = [
        Leak(name, float(alone[index]), auc_of_all, float(gain[index]), certain=True)
        for name in written_with_outcome(table, parameters, names)
        for index in (table.features.index(name),)
    ]
    if len(suspects) == 0:
        return tuple(sure)
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


def column_auc(x: Floats, y: Floats, categorical: bool = False, visitors: NDArray[np.int64] | None = None) -> float:
    """How well one column alone ranks, `x` and `y` of shape (n,): any shape of dependence, missing values included.

    Each bin (32 quantiles, or each code; missing is a bin) is scored by the rate of conversions in the *other* half of
    the rows, smoothed by ten rows of the base rate; the AUC is over both halves, so that many codes are no advantage.
    With `visitors`, a number each of shape (n,), all rows of one are in the same half: a column that tells visitors
    apart does not rank by what the same ones did.
    """
    where, half = _bins(x, categorical), _halves(y, visitors)
    n_bins, rate = int(where.max()) + 1, float(y.mean())
    scores = np.empty(len(x))
    for own in (0, 1):
        others = half != own
        n = np.bincount(where[others], minlength=n_bins)
        conversions = np.bincount(where[others], weights=y[others], minlength=n_bins)
        scores[~others] = ((conversions + _PRIOR_ROWS * rate) / (n + _PRIOR_ROWS))[where[~others]]
    return float(np.mean([auc(y[half == own], scores[half == own]) for own in (0, 1)]))


def _halves(y: Floats, visitors: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if visitors is not None:
        half = np.unique(visitors, return_inverse=True)[1] % 2
        if all(len(np.unique(y[half == own])) > 1 for own in (0, 1)):
            return np.asarray(half, dtype=np.int64)
    half = np.zeros(len(y), dtype=np.int64)
    for label in (0.0, 1.0):  # alternate within each class: both halves see both
        rows = np.flatnonzero(y == label)
        half[rows] = np.arange(len(rows)) % 2
    return half


def written_with_outcome(table: Table, parameters: Parameters, but: Collection[str] = ()) -> tuple[str, ...]:
    """Columns (not those in `but`) with values with which nearly every row converts, though the others do not say so.

    That is a bin of at least 30 rows (of 30 different visitors, where the table knows them) that converts to 99 %,
    where fewer than half of all rows do, and where a model of the other columns, on rows it did not see, expects so
    many rows without a conversion that so few have a probability below 10⁻⁶ (Poisson; Le Cam 1960).
    """
    found = {
        name: rows
        for index, name in enumerate(table.features)
        if name not in but
        and (rows := certain_rows(table.x[:, index], table.y, name in table.categorical, table.visitors)).any()
    }
    if not found:
        return ()
    rest = table.without([*found, *but])
    p = np.full(len(table.y), float(table.y.mean()))
    if rest.x.shape[1] and not np.isnan(rest.x).all():
        p = predict_held_out(rest, parameters, stratified(table.y, 2, 0))
    return tuple(name for name, rows in found.items() if _unexplained(rows, table.y, p, table.visitors))


def certain_rows(
    x: Floats, y: Floats, categorical: bool = False, visitors: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """The rows of bins that convert to 99 %, as shape (n,); none where half of all rows convert.

    A bin has at least 30 rows; with `visitors`, a number each of shape (n,), it has as many of them, each counting
    once: the rows of one visitor tell one outcome many times.
    """
    if y.mean() >= 0.5:
        return np.zeros(len(y), dtype=np.bool_)
    where = _bins(x, categorical)
    weight = _once_each(where, visitors)
    n, conversions = np.bincount(where, weights=weight), np.bincount(where, weights=weight * y)
    certain = (n >= _CERTAIN_ROWS - 1e-6) & (conversions >= CERTAIN * n)
    return np.asarray(certain[where], dtype=np.bool_)


def _once_each(where: NDArray[np.int64], visitors: NDArray[np.int64] | None) -> Floats:
    """One over the number of rows that a visitor has in the same bin, shape (n,)."""
    if visitors is None:
        return np.ones(len(where))
    _, pair, counts = np.unique(np.column_stack((where, visitors)), axis=0, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[pair.ravel()], dtype=np.float64)


def _unexplained(rows: NDArray[np.bool_], y: Floats, p: Floats, visitors: NDArray[np.int64] | None) -> bool:
    from scipy.special import pdtr

    weight = _once_each(np.zeros(int(rows.sum()), dtype=np.int64), None if visitors is None else visitors[rows])
    missed, expected = float((weight * (1 - y[rows])).sum()), float((weight * (1 - p[rows])).sum())
    return bool(pdtr(missed, expected) < CHANCE)


def _bins(x: Floats, categorical: bool) -> NDArray[np.int64]:
    """The bin of each value: 0 = missing, then codes or 32 quantiles; a value of many rows has a bin of its own."""
    known = ~np.isnan(x)
    where = np.zeros(len(x), dtype=np.int64)
    if categorical:
        where[known] = 1 + np.unique(x[known], return_inverse=True)[1]
    elif known.any():
        quantiles = np.quantile(x[known], np.linspace(0, 1, _N_BINS + 1)[1:-1])
        often = quantiles[1:][quantiles[1:] == quantiles[:-1]]
        edges = np.unique(np.concatenate((quantiles, np.nextafter(often, -np.inf))))
        where[known] = 1 + np.searchsorted(edges, x[known], side="left")
    return where
