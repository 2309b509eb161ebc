"""What a journal record of a decision or of a visit teaches: the example before anything came of it, and its goal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import decision as at
from engine.assess import NO_OFFER, model_row
from engine.compiled import CompiledBook, CompiledCampaign, Value
from engine.decision import UNSHOWN, Decision
from engine.geo import nearest_geofence
from engine.inputs import (
    CART,
    CONTEXT,
    FEATURES,
    IS_BOT,
    N_SERVED,
    PERSONALISE,
    RECORDABLE,
    SERVED,
    SUPPLY,
    TRAIN,
    times_served,
)
from engine.record import Record
from engine.schema import schema_hash
from engine.served import UNREAD, cost_as_served, offer_features, variant_of
from engine.supply import FORCED, MARGIN
from training.example import Example

Books = Callable[[str], CompiledBook | None]
"""The campaign book of a version; None where it is no longer kept."""
NO_VALUE: Final = Value("fixed", 0.0, 0.0, 0.0)
SCHEMA: Final = schema_hash()


class Goal(NamedTuple):
    """What counts as success, how soon after a decision, and what it is worth."""

    kind: str
    within_ms: int
    value: Value
    visit: bool = False


class Taught(NamedTuple):
    """An example, what it is to be measured by, and the cart's value when the decision was taken."""

    example: Example
    goal: Goal
    cart: float


def of_decision(record: Record, key: str, books: Books) -> Taught | None:
    """The example of a decision record; None for what never enters.

    Bots, QA and previews, no consent to personalise or to train, an answer without a campaign, a record of another
    feature schema, or of a book that is no longer kept. Read from the record as it stands: what the whole inputs and
    decision say beyond this teaches nothing.
    """
    versions, inputs, decided = record[5], record[7], record[8]
    if versions[3] != SCHEMA or not _teaches(inputs) or decided[at.PLAIN] in UNREAD:
        return None
    book = books(versions[1])
    campaign = None if book is None else variant_of(book, decided[at.CAMPAIGN], decided[at.VARIANTS])
    if book is None or campaign is None:
        return None
    offer, propensity = _shown(decided)
    trial, segments, cart = decided[at.TRIAL], decided[at.SEGMENTS], inputs[CART][1]
    example = Example(
        key=key, revision=1, track=record[1], t_ms=record[2], campaign=campaign.name, offer=offer,
        propensity=propensity, row=_row(record, book, campaign), label=0, value=0.0, engaged=False,
        model=decided[at.MODEL], arm=decided[at.ARM], trial=None if trial is None else tuple(trial), matured=False,
        degraded=decided[at.RUNG] != "model", took_us=record[9] if len(record) > 9 else 0, book=versions[1],
        holdout=decided[at.IN_HOLDOUT], segment=segments[0] if segments else "",
    )  # fmt: skip
    goal = Goal(campaign.conversion_kind, campaign.conversion_within_ms, campaign.conversion_value)
    return Taught(example, goal, cart)


def _teaches(inputs: list[Any]) -> bool:
    """Whether a visitor's decision may be learned from, by the recorded inputs."""
    if inputs[IS_BOT] or not (inputs[TRAIN] and inputs[PERSONALISE]) or inputs[RECORDABLE : RECORDABLE + 1] == [False]:
        return False
    supply = _supply(inputs)
    return supply is None or supply[FORCED] is None


def _supply(inputs: list[Any]) -> list[Any] | None:
    return inputs[SUPPLY] if len(inputs) > SUPPLY else None


def _row(record: Record, book: CompiledBook, campaign: CompiledCampaign) -> NDArray[np.float64]:
    """The row of `engine.served.served_row`, written at once."""
    inputs, shown = record[7], record[8][at.SHOWN]
    context = inputs[CONTEXT]
    _, km = nearest_geofence(book.geofences, context.get("lat"), context.get("lon"))
    offer = campaign.offer_by_name.get(shown[0].rpartition(".")[2]) if shown else None
    last = NO_OFFER
    if offer is not None:
        supply = _supply(inputs)
        worth = offer.value.amount(inputs[CART][1], None if supply is None else supply[MARGIN])
        discounted = offer.terms is not None and offer.terms.discount is not None
        cost = cost_as_served(offer, Decision.from_list(record[8])) if discounted else offer.cost
        n_served = inputs[N_SERVED] if len(inputs) > N_SERVED else None
        last = offer_features(offer, worth, times_served(inputs[SERVED], n_served, offer.key), cost)
    row = model_row(inputs[FEATURES], context, km, last)
    row.flags.writeable = False
    return row


def _shown(decided: list[Any]) -> tuple[str | None, float]:
    """The first offer shown, or None, and how likely that was."""
    slots, shown = decided[at.SLOTS], decided[at.SHOWN]
    if decided[at.IN_HOLDOUT] or not slots or decided[at.PLAIN] in UNSHOWN:
        return None, 1.0
    candidates, propensities, drawn = slots[0]
    propensity = propensities[candidates.index(drawn)] if drawn in candidates else 1.0
    return (shown[0].rpartition(".")[2] if shown else None), propensity


def of_visit(record: Record, key: str) -> Taught | None:
    """The example of a visit without a decision; None for one of another feature schema."""
    _, root, t_ms, _, features, context, km, versions, goal = record
    if versions[3] != SCHEMA:
        return None
    row = model_row(features, context, math.nan if km is None else km)
    row.flags.writeable = False
    example = Example(
        key=key, revision=1, track=root, t_ms=t_ms, campaign=goal[0], offer=None, propensity=1.0, row=row, label=0,
        value=0.0, engaged=False, model="", arm="champion", trial=None, matured=False, degraded=False, took_us=0,
        book=versions[1],
    )  # fmt: skip
    return Taught(example, Goal(goal[1], goal[2], NO_VALUE, visit=True), 0.0)
