"""The prior answers before anything is known: more with a cart, more with an offer, whatever it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.prior import MOST_FOR_COST, PriorModel, break_even
from engine.schema import MODEL_FEATURES, N_FEATURES

PRIOR = PriorModel()
AT = {name: i for i, name in enumerate(MODEL_FEATURES)}


def row(**known: float) -> NDArray[np.float64]:
    found = np.zeros(N_FEATURES)
    for name, value in known.items():
        found[AT[name]] = value
    return found


def worth(p: float, p_none: float, value: float, cost: float) -> float:
    return (p - p_none) * value - p * cost


def test_a_cart_and_the_checkout_raise_the_probability() -> None:
    arrived, with_cart = PRIOR.predict_one(row()), PRIOR.predict_one(row(n_cart_items=1))
    assert 0.01 < arrived < with_cart < PRIOR.predict_one(row(n_cart_items=1, checkout_step=1))


@given(st.floats(1, 1000), st.floats(0.01, 0.35))
def test_what_an_offer_costs_is_assumed_to_be_earned_with_one_who_is_as_likely_as_not_to_convert(
    value: float, share: float
) -> None:
    cost = value * share
    p = 1.0 / (1.0 + np.exp(-break_even(value, cost)))
    # To the first order in cost / value; what is left of it is of the second.
    assert abs(worth(p, 0.5, value, cost)) <= 1.5 * share * share * value


def test_a_sure_buyer_is_not_paid_to_buy_by_assumption() -> None:
    sure = {"n_cart_items": 1, "checkout_step": 3, "recency": 1, "depth": 1, "n_products_viewed": 10}
    none = PRIOR.predict_one(row(**sure, past_conversion_rate=1))
    paid = PRIOR.predict_one(row(**sure, past_conversion_rate=1, offer_code=7, offer_value=40, offer_cost=4))
    assert none > 0.9
    assert worth(paid, none, 40, 4) < 0


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
@example(math.inf, 1.0)
@example(1.0, math.inf)
@example(math.inf, math.inf)
@example(1.0, math.nextafter(1.0, 0.0))
def test_whatever_value_and_cost_say_the_term_is_bounded(value: float, cost: float) -> None:
    assert 0.0 <= break_even(value, cost) <= MOST_FOR_COST


def test_rows_together_get_what_each_gets_alone() -> None:
    rows = np.stack([row(), row(n_cart_items=2), row(offer_code=3, offer_value=40, offer_cost=4)])
    assert PRIOR.predict_many(rows).tolist() == pytest.approx([PRIOR.predict_one(one) for one in rows])
