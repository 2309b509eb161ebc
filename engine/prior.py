"""The documented prior: what answers until a model has been trained, and says so in `model.version`."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.schema import MODEL_FEATURES, schema_hash

COEFFICIENTS: Final[dict[str, float]] = {
    "recency": 0.3,
    "depth": 0.6,
    "checkout_step": 1.0,
    "past_conversion_rate": 1.5,
    "n_products_viewed": 0.05,
}
"""Log-odds for each unit of a feature; the further terms are in `PriorModel.predict_one`."""
INTERCEPT: Final = -3.9
CART: Final = 1.4
OFFER: Final = 0.35
"""Log-odds an offer that costs nothing is assumed to add until outcomes are known; the same for every offer."""
MOST_FOR_COST: Final = 1.0
"""Log-odds that the cost of an offer adds to this at most."""


class PriorModel:
    """A hand-set logistic model over `MODEL_FEATURES`.

    About 2 % convert at arrival, 8 % with a cart, 20 % in the checkout: the orders of magnitude of shop
    statistics (15.5 % of sessions with engagement in UCI 468), not a fit to any of them.
    """

    version = "prior-1"
    kind = "prior"

    def __init__(self) -> None:
        self.schema_hash = schema_hash()
        self._terms = [(MODEL_FEATURES.index(name), weight) for name, weight in COEFFICIENTS.items()]
        self._cart = MODEL_FEATURES.index("n_cart_items")
        self._offer = MODEL_FEATURES.index("offer_code")
        self._value, self._cost = MODEL_FEATURES.index("offer_value"), MODEL_FEATURES.index("offer_cost")

    def predict_one(self, row: Any) -> float:
        """The conversion probability of one row of shape (n_features,); NaN counts as 0."""
        z = INTERCEPT
        for index, weight in self._terms:
            x = float(row[index])
            if x == x:  # noqa: PLR0124 - the cheap test for NaN
                z += weight * min(x, 10.0)
        if row[self._cart] > 0:
            z += CART
        if row[self._offer] > 0:
            z += OFFER + break_even(float(row[self._value]), float(row[self._cost]))
        return 1.0 / (1.0 + math.exp(-z))

    def predict_many(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The conversion probabilities of rows of shape (n, n_features), as shape (n,)."""
        return np.array([self.predict_one(row) for row in rows], dtype=np.float64)


def break_even(value: float, cost: float) -> float:
    """The log-odds that pay for an offer's cost with a visitor who is as likely as not to convert, at most 1.

    Whoever puts an offer that costs something into a book expects it to earn that; without this the cheapest would
    be preferred until enough is known of the others. It breaks even where p(offer) · (value − cost) = p(none) · value.

    >>> round(break_even(40.0, 4.0), 2), break_even(40.0, 0.0), break_even(4.0, 40.0)
    (0.21, 0.0, 1.0)
    """
    if not cost > 0.0:
        return 0.0
    share = cost / value if value > cost else 1.0
    return min(-2.0 * math.log1p(-share), MOST_FOR_COST) if share < 1.0 else MOST_FOR_COST


def churn_prior(gap_days: float, n_sessions: float, n_purchases: float) -> float:
    """The prior risk that a visitor does not return within 14 days; falls with habit, rises with the last gap."""
    gap = 0.0 if gap_days != gap_days else gap_days  # noqa: PLR0124
    z = -0.4 + 0.12 * min(gap, 60.0) - 0.25 * min(n_sessions, 8.0) - 0.4 * min(n_purchases, 5.0)
    return 1.0 / (1.0 + math.exp(-z))
