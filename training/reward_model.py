"""A cross-fitted linear model of the reward: of the context, and of each action's deviation from it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.encode import encode
from training.rows import RawTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RIDGE: Final = 1.0
ACTION_RIDGE: Final = 50.0
"""In rows: an action seen this often lies halfway between everybody's reward and its own."""
N_FOLDS: Final = 5


def design(raw: RawTable, names: tuple[str, ...]) -> tuple[Floats, tuple[str, ...]]:
    """Features of shape (n, d), standardised, first column 1; text one-hot, a missing number is the mean and a flag.

    Gives notes on columns left out as well. The names must be columns of the table.
    """
    blocks: list[Floats] = [np.ones((len(raw.lines), 1))]
    notes = []
    for name in names:
        encoded = encode(name, raw.columns[name])
        if encoded.left_out is not None:
            notes.append(encoded.left_out)
            continue
        values = encoded.values
        if encoded.labels is not None:
            blocks.append((values[:, None] == np.arange(len(encoded.labels))).astype(np.float64))
            continue
        absent = np.isnan(values)
        if absent.all():
            continue
        blocks.append(np.where(absent, values[~absent].mean(), values)[:, None])
        if absent.any():
            blocks.append(absent.astype(np.float64)[:, None])
    x = np.hstack(blocks)
    spread = x[:, 1:].std(axis=0)
    varies = spread > 0
    x = np.hstack((x[:, :1], (x[:, 1:][:, varies] - x[:, 1:][:, varies].mean(axis=0)) / spread[varies]))
    return x, tuple(notes)


def folds(n: int, seed: int, n_folds: int = N_FOLDS) -> Ints:
    """Which fold each row is in, shape (n,), equal sizes, drawn by the seed."""
    return np.asarray(np.random.default_rng(seed).permutation(n) % n_folds, dtype=np.int64)


def predict_by_action(x: Floats, action: Ints, reward: Floats, n_actions: int, fold: Ints) -> Floats:
    """Predicted reward of every action in every row, shape (n, n_actions), by models that did not see the row's fold.

    Ridge regression of the reward on `x` (n, d), then of each action's residuals, shrunk towards none. Source: Hoerl &
    Kennard 1970; cross-fitting: Chernozhukov et al. 2018.
    """
    q = np.empty((len(x), n_actions))
    for one in np.unique(fold):
        held = fold == one
        common = _ridge(x[~held], reward[~held], RIDGE)
        q[held] = (x[held] @ common)[:, None]
        left, seen = reward[~held] - x[~held] @ common, action[~held]
        for arm in np.unique(seen):
            rows = seen == arm
            q[held, arm] += x[held] @ _ridge(x[~held][rows], left[rows], ACTION_RIDGE)
    return q


def predict_by_context(x: Floats, reward: Floats, w: Floats, fold: Ints) -> Floats:
    """Predicted reward of the context alone, shape (n,), under the new policy: rows weigh as w says; cross-fitted."""
    b = np.empty(len(x))
    for one in np.unique(fold):
        held = fold == one
        root = np.sqrt(w[~held])[:, None]
        b[held] = x[held] @ _ridge(x[~held] * root, reward[~held] * root[:, 0], RIDGE)
    return b


def _ridge(x: Floats, y: Floats, penalty: float) -> Floats:
    return np.asarray(np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y), dtype=np.float64)
