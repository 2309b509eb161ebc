"""The model's row as it was served with a decision, rebuilt from what the decision and its inputs say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.assess import NO_OFFER, model_row
from engine.compiled import CompiledBook, CompiledCampaign, CompiledOffer
from engine.decision import BOT, CONSENT, DEGRADED, Decision
from engine.geo import nearest_geofence
from engine.inputs import Inputs

UNREAD: Final = frozenset({BOT, CONSENT, DEGRADED})
"""Reasons of answers for which nothing of the profile was read."""


def served_campaign(book: CompiledBook, decision: Decision) -> CompiledCampaign | None:
    """The campaign that decided, in the visitor's own variant."""
    return variant_of(book, decision.campaign, decision.variants)


def variant_of(book: CompiledBook, name: str | None, variants: Mapping[str, str]) -> CompiledCampaign | None:
    """A campaign in the variant of a visitor, `variants` being by experiment."""
    campaign = book.campaigns.get(name or "")
    if campaign is None:
        return None
    for experiment in campaign.experiments:
        variant = variants.get(experiment.name)
        if variant in experiment.variants:
            return experiment.variants[variant]
    return campaign


def served_row(inputs: Inputs, book: CompiledBook, decision: Decision) -> NDArray[np.float64] | None:
    """The row of the first offer shown, or of no offer, shape (n_features,); None where no campaign decided.

    `book` is the one that decided.
    """
    campaign = served_campaign(book, decision)
    if campaign is None or decision.plain in UNREAD:
        return None
    _, km = nearest_geofence(book.geofences, inputs.context.get("lat"), inputs.context.get("lon"))
    offer = campaign.offer_by_name.get(decision.served[0].rpartition(".")[2]) if decision.served else None
    last = NO_OFFER
    if offer is not None:
        worth, cost = offer_worth(offer, inputs), cost_as_served(offer, decision)
        last = offer_features(offer, worth, inputs.times_served(offer.key), cost)
    return model_row(inputs.features, inputs.context, km, last)


def offer_worth(offer: CompiledOffer, inputs: Inputs) -> float:
    """What a conversion with this offer is worth to the shop, by the visitor's cart."""
    return offer.value.amount(inputs.cart[1], inputs.supply.margin if inputs.supply is not None else None)


def cost_as_served(offer: CompiledOffer, decision: Decision) -> float:
    """What the offer costs when it is redeemed: what its personal discount takes off, where it gives one."""
    if offer.terms is None or offer.terms.discount is None:
        return offer.cost
    given = (item.discount for item in decision.items if item.id == offer.name and item.discount is not None)
    return next(given, offer.cost)


def offer_features(offer: CompiledOffer, value: float, n_served: int, cost: float) -> tuple[float, float, float, float]:
    """An offer's own part of the row: code, what a conversion is worth, cost, how often it was served."""
    return float(offer.code), value, cost, float(n_served)
