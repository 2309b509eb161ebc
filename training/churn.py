"""Churn from the same rows: a visit after which nobody came back within the horizon is labelled 1. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.features import INDEX
from engine.prior import churn_prior
from engine.schema import OFFER_FEATURES
from training.learner import rows_table
from training.table import Table

Floats = NDArray[np.float64]
VISIT_GAP_MS: Final = 30 * 60_000
"""Silence that ends a visit (`engine.session`)."""
_GAP, _SESSIONS, _PURCHASES = INDEX["gap_days"], INDEX["n_sessions"], INDEX["n_purchases"]


class ChurnPrior:
    """The documented prior (`engine.prior.churn_prior`) over model rows: the champion until one is trained."""

    version = "churn-prior-1"

    def predict_one(self, row: Floats) -> float:
        """The risk for one row of shape (n_features,)."""
        return churn_prior(
            float(row[_GAP]), float(np.nan_to_num(row[_SESSIONS])), float(np.nan_to_num(row[_PURCHASES]))
        )

    def predict_many(self, rows: Floats) -> Floats:
        """The risks of rows of shape (n, n_features), as shape (n,)."""
        return np.array([self.predict_one(row) for row in rows], dtype=np.float64)


def churn_table(
    x: Floats, t_ms: NDArray[np.int64], track: NDArray[np.int64], horizon_ms: int, watermark_ms: int
) -> Table:
    """One row a visit whose horizon is over, from rows of shape (n, n_features), times and track numbers of (n,).

    A visit is the rows of a track without a gap of half an hour, and its last row stands for it, without an offer.
    Whoever returned is left out like anybody else while the horizon lasts: quick returns would be over-counted.
    """
    order = np.lexsort((t_ms, track))
    t, who = t_ms[order], track[order]
    same = np.append(who[1:] == who[:-1], False)
    until_next = np.append(np.diff(t), 0)
    ends = ~same | (until_next > VISIT_GAP_MS)
    mature = ends & (t + horizon_ms <= watermark_ms)
    returned = same & (until_next <= horizon_ms)
    rows = np.array(x[order[mature]])
    rows[:, -len(OFFER_FEATURES) :] = 0.0
    return rows_table(rows, (~returned[mature]).astype(np.float64), t[mature], source="visits")
