"""The discounts an offer may give a visitor: what it takes off which price, inside the limits and the budget."""

from __future__ import annotations

from engine.compiled import CompiledOffer
from engine.inputs import Inputs
from engine.terms import COST, CompiledDiscount, Step, Terms, product_of


def steps_for(offer: CompiledOffer, terms: Terms, discount: CompiledDiscount, inputs: Inputs) -> list[Step]:
    """The steps this visitor may be given, the smallest first; none where there is no price to take it off.

    The price is that of the offer's product, else of the cart.
    """
    supply = inputs.supply
    product = product_of(terms, supply)
    if product is not None and product.price is not None:
        steps = discount.steps(product.price, product.margin)
    else:
        steps = discount.steps(inputs.cart[1], supply.margin if supply is not None else None)
    if terms.budget is not None and terms.budget.unit == COST and (supply is None or supply.forced is None):
        left = 0.0 if supply is None else supply.budgets.get(offer.key, 0.0)
        return [step for step in steps if step.amount <= left]
    return steps
