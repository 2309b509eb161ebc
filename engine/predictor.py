"""What the engine asks of a conversion model, whoever trained it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Predictor(Protocol):
    """A conversion model in force: rows in the order of its schema in, probabilities out.

    A row is float64 of shape (n_features,); NaN means missing, categorical features hold small whole numbers.
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

    def predict_one(self, row: NDArray[np.float64], /) -> float:
        """The probability, 0–1, for one row of shape (n_features,)."""
        ...

    def predict_many(self, rows: NDArray[np.float64], /) -> NDArray[np.float64]:
        """The probabilities for C-contiguous rows of shape (n, n_features), as shape (n,)."""
        ...
