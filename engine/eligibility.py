"""Which offers a visitor may be shown now, and for each other one the first reason why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.compiled import CompiledCampaign, CompiledOffer
from engine.decision import (
    ALREADY_SHOWN,
    BUDGET,
    CAP,
    CONDITION,
    COOL_DOWN,
    NOT_RECORDED,
    STOCK,
    WINDOW,
    Verdict,
)
from engine.discounts import steps_for
from engine.inputs import Inputs
from engine.supply import REDEEMED, SEEN
from engine.terms import COST, IMPRESSIONS, SERVINGS, CompiledDiscount, Terms, missing_product

Refusal = tuple[str, str | None]
"""A reason and what more is to be said of it."""


def eligible_offers(
    campaign: CompiledCampaign, facts: Mapping[str, Any], inputs: Inputs, now_ms: int
) -> tuple[list[CompiledOffer], list[Verdict]]:
    """The offers that pass, and the verdict on each that does not. Staged ones exist for a preview alone."""
    passed: list[CompiledOffer] = []
    failed: list[Verdict] = []
    preview = inputs.supply is not None and inputs.supply.forced is not None
    for offer in campaign.offers:
        terms = offer.terms
        if terms is not None and terms.staged and not preview:
            continue
        refusal = _refusal(offer, facts, inputs)
        if refusal is None and terms is not None:
            refusal = _refused_by_terms(terms, inputs, now_ms)
        # A preview counts nowhere: neither caps nor budgets keep anything from it.
        if refusal is None and not preview:
            refusal = _spent(offer, terms, inputs, now_ms)
        if refusal is None and terms is not None and terms.discount is not None:
            refusal = _no_discount(offer, terms, terms.discount, inputs)
        if refusal is None:
            passed.append(offer)
        else:
            failed.append(Verdict(offer.name, refusal[0], detail=refusal[1]))
    return passed, failed


def _refusal(offer: CompiledOffer, facts: Mapping[str, Any], inputs: Inputs) -> Refusal | None:
    if not offer.condition.enter(facts):
        return CONDITION, None
    return (ALREADY_SHOWN, None) if offer.name in inputs.shown else None


def _refused_by_terms(terms: Terms, inputs: Inputs, now_ms: int) -> Refusal | None:
    if terms.window is not None and (why := terms.window.refusal(now_ms, inputs.context)) is not None:
        return WINDOW, why
    if terms.product is not None and (why := missing_product(terms, inputs.supply)) is not None:
        return STOCK, why
    return None


def _no_discount(offer: CompiledOffer, terms: Terms, discount: CompiledDiscount, inputs: Inputs) -> Refusal | None:
    if steps_for(offer, terms, discount, inputs):
        return None
    if steps_for(offer, replace(terms, budget=None), discount, inputs):
        return BUDGET, "what is left pays for none of its discounts"
    return STOCK, "there is no price to take a discount off"


def _spent(offer: CompiledOffer, terms: Terms | None, inputs: Inputs, now_ms: int) -> Refusal | None:
    """Why it has been shown often enough, to this visitor or to all; None where it has not."""
    capped = offer.cap_max is not None or offer.cool_down_ms
    if not inputs.recordable and (capped or (terms is not None and (terms.budget or terms.redeem_ms))):
        return NOT_RECORDED, None
    if capped:
        served = inputs.served.get(offer.key, ())
        if offer.cool_down_ms and served and now_ms - served[-1] < offer.cool_down_ms:
            return COOL_DOWN, None
        if offer.cap_max is not None:
            times = served if terms is None or terms.counted == SERVINGS else _counted(offer, terms, inputs)
            if _within(times, now_ms - offer.cap_per_ms) >= offer.cap_max:
                return CAP, None
    if terms is not None and terms.budget is not None:
        left = 0.0 if inputs.supply is None else inputs.supply.budgets.get(offer.key, 0.0)
        # A discount's amount is not known yet; `decide` gives none that the budget could not pay.
        if left < (offer.cost if terms.budget.unit == COST else 1.0) or left <= 0.0:
            return BUDGET, f"{left:g} of {terms.budget.max:g} {terms.budget.unit} can be had here now"
    return None


def _counted(offer: CompiledOffer, terms: Terms, inputs: Inputs) -> Sequence[int]:
    times = inputs.supply.counted.get(offer.name) if inputs.supply is not None else None
    return () if times is None else times[SEEN if terms.counted == IMPRESSIONS else REDEEMED]


def _within(times: Sequence[int], since_ms: int) -> int:
    return sum(1 for t in times if t > since_ms)
