"""Held-out predictions: stratified folds, or the last rows in time; calibration is cross-fitted as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.calibration import Method, fit_calibration
from training.fit import Parameters, fit_trees
from training.native import NativeBooster
from training.table import Table

Floats = NDArray[np.float64]
_TRAIN_ONLY = -1


@dataclass(frozen=True, slots=True)
class Plan:
    """Which rows are held out when: `fold` of shape (n,), −1 = never held out. `scheme` says it for people."""

    fold: NDArray[np.int64]
    scheme: str


def stratified(y: Floats, n_folds: int, seed: int) -> Plan:
    """Folds with equal shares of conversions in `y` of shape (n,), drawn by the seed.

    At most as many as the rarer class has rows.
    """
    n_folds = max(2, min(n_folds, int(y.sum()), int(len(y) - y.sum())))
    fold = np.empty(len(y), dtype=np.int64)
    rng = np.random.default_rng(seed)
    offset = 0
    for label in (0.0, 1.0):
        rows = rng.permutation(np.flatnonzero(y == label))
        fold[rows] = (np.arange(len(rows)) + offset) % n_folds
        offset = len(rows)  # so that fold sizes differ by one at most
    return Plan(fold, f"{n_folds}-fold cross-validation, stratified")


def last_in_time(n: int, n_folds: int) -> Plan:
    """The last 1/n_folds of the rows, which are in time order, predicted by a model of the rows before."""
    fold = np.full(n, _TRAIN_ONLY, dtype=np.int64)
    n_folds = max(2, n_folds)
    first = n - max(1, n // n_folds)
    fold[first:] = 0
    return Plan(fold, f"the last {100 / n_folds:.0f} % of the rows in time order")


def predict_held_out(table: Table, parameters: Parameters, plan: Plan) -> Floats:
    """Probabilities of shape (n,), each by a model that did not see its row; NaN where never held out."""
    p = np.full(len(table.y), np.nan)
    for fold in range(int(plan.fold.max()) + 1):
        held = plan.fold == fold
        booster = NativeBooster(fit_trees(table, parameters, np.flatnonzero(~held)).blob)
        p[held] = booster.predict_many(table.x[held])
        booster.close()
    return p


def cross_calibrated(method: Method, p: Floats, y: Floats, fold: NDArray[np.int64]) -> Floats:
    """Held-out probabilities after a calibration learned on the other rows' held-out probabilities, shape (n,).

    With a single fold (time order) its first half calibrates its second; the first half is left as it was.
    """
    if method == "none":
        return p
    folds = np.unique(fold)
    part = fold if len(folds) > 1 else (np.arange(len(p)) >= len(p) // 2).astype(np.int64)
    out = p.copy()
    for one in np.unique(part) if len(folds) > 1 else [1]:
        calibration = fit_calibration(method, p[part != one], y[part != one])
        assert calibration is not None
        out[part == one] = calibration.many(p[part == one])
    return out
