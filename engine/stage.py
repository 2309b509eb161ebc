"""Lifecycle stages: where in a shop's life a visitor stands."""

from __future__ import annotations

from collections.abc import Sequence

from engine.features import INDEX

ENGAGED_PRODUCTS = 3
"""Different products viewed in the session from which a visitor counts as engaged."""


def stage_of(features: Sequence[float], churn: float, lapsing_above: float) -> str:
    """The first that fits: checkout, cart, engaged, lapsing, customer, returning, new."""
    if features[INDEX["checkout_step"]] > 0:
        return "checkout"
    if features[INDEX["n_cart_items"]] > 0:
        return "cart"
    if features[INDEX["n_products_viewed"]] >= ENGAGED_PRODUCTS:
        return "engaged"
    if churn > lapsing_above:
        return "lapsing"
    if features[INDEX["n_purchases"]] > 0:
        return "customer"
    return "returning" if features[INDEX["n_sessions"]] > 1 else "new"
