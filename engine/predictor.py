"""What the engine asks of a conversion model, whoever trained it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Row = Sequence[float] | NDArray[np.float64]
Rows = Sequence[Sequence[float]] | NDArray[np.float64]


class Predictor(Protocol):
    """A conversion model in force: rows in the order of its schema in, probabilities out.

    A row has n_features numbers; NaN means missing, categorical features hold small whole numbers. A decision asks with
    plain lists, of which an array would be a copy; training asks with arrays.
    """

    @property
    def version(self) -> str:
        """The name under which decisions record it."""
        ...

    @property
    def kind(self) -> str:
        """`prior` or `lightgbm`."""
        ...

    @property
    def schema_hash(self) -> str:
        """The hash of the layout it was trained on (`engine.schema.schema_hash` for a model that can serve)."""
        ...

    def predict_one(self, row: Row, /) -> float:
        """The probability, 0–1, for one row of shape (n_features,)."""
        ...

    def predict_many(self, rows: Rows, /) -> NDArray[np.float64]:
        """The probabilities for C-contiguous rows of shape (n, n_features), as shape (n,)."""
        ...
