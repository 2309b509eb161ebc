"""Exposure: whether a visitor's variant could have changed an answer, told from the record of the decision.

Who gets the same whatever the variant says nothing of an experiment and only dilutes it. Nothing is worked out while a
visitor waits: a record holds everything that is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.assess import Reading, known_segments, read_visitor, stage_and_score, update_segments
from engine.compiled import CompiledBook, CompiledCampaign
from engine.decision import Decision
from engine.eligibility import eligible_offers
from engine.inputs import Inputs
from engine.schema import schema_hash
from engine.world import World


class Recorded:
    """A predictor that gives the probability that was recorded, for whatever row."""

    version, kind = "recorded", "prior"

    def __init__(self, conversion: float) -> None:
        self.schema_hash, self._conversion = schema_hash(), conversion

    def predict_one(self, row: NDArray[np.float64], /) -> float:  # noqa: ARG002 - whatever the row
        return self._conversion

    def predict_many(self, rows: NDArray[np.float64], /) -> NDArray[np.float64]:
        return np.full(len(rows), self._conversion)


def exposed(inputs: Inputs, decision: Decision, book: CompiledBook, now_ms: int) -> bool:
    """Whether another variant of this visitor's experiment could have been answered otherwise.

    By segments, by the offers that are eligible, and by anything that says what these are worth or how one is drawn.
    In a holdout nothing is shown either way. `book` is the one that decided.
    """
    campaign = book.campaigns.get(decision.campaign or "")
    if campaign is None or decision.holdout or not decision.variants:
        return False
    experiment = next((e for e in campaign.experiments if e.name in decision.variants), None)
    if experiment is None:
        return False
    world = World(book, None if decision.conversion is None else Recorded(decision.conversion))
    reading = read_visitor(inputs, world)
    # What a visitor was in already may itself be the variant's doing, so it is looked at as if nothing had been, too.
    control, *others = experiment.variants.values()
    for memberships in (known_segments(book, inputs.memberships), {}):
        first = _answer(control, reading, inputs, memberships, now_ms)
        if any(_answer(other, reading, inputs, memberships, now_ms) != first for other in others):
            return True
    return False


def _answer(
    variant: CompiledCampaign, reading: Reading, inputs: Inputs, memberships: dict[str, list[int]], now_ms: int
) -> Any:
    found = stage_and_score(reading, inputs, variant)
    _, inside = update_segments(reading, variant, found, memberships, now_ms)
    passed, _ = eligible_offers(variant, reading.facts, inputs, now_ms)
    if not passed:
        return inside, ()
    cart = {"items": int(inputs.cart[0]), "value": inputs.cart[1]}
    offers = []
    for offer in passed:
        values = {"cart": cart, "profile": inputs.traits, "offer": {"id": offer.name, "cost": offer.cost},
                  "context": inputs.context}  # fmt: skip
        offers.append((offer.name, offer.content.render(values), offer.value, offer.cost, offer.priority))
    return inside, (offers, variant.policy, variant.epsilon, variant.tier1)
