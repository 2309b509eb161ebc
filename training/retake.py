"""Recorded decisions taken again with another model: how likely it would have done the same, for off-policy values.

The same `decide` answers from the same recorded inputs, so segments, caps and the eligible set are what they would
have been; only the first slot is compared, whose outcome the record shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.compiled import CompiledCampaign
from engine.decide import decide
from engine.decision import UNSHOWN, Decision
from engine.dice import SeededDice
from engine.inputs import Inputs
from engine.policy import NONE
from engine.record import Record
from engine.schema import schema_hash
from engine.world import World

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Retaken:
    """Of shape (n,) each: what was earned, with what propensity it was chosen, with what probability the other model
    would have chosen the same, and that model's prediction of the reward of what was done and of what it would do.
    """

    reward: Floats
    propensity: Floats
    target: Floats
    q_logged: Floats
    q_target: Floats


def retake(decisions: Iterable[tuple[Record, World, float]]) -> Retaken:
    """Take decisions again, each (record, the world of its own book and the other model, its label 0 or 1).

    Left out are decisions without a choice (holdout, nothing eligible, apprentice) and those of another feature schema.
    The reward of an action is label × (value − its cost) in the book's currency, value being the mean over the
    eligible offers: the order is worth the same whatever was shown.
    """
    rows = [row for record, world, label in decisions if (row := _one(record, world, label)) is not None]
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), 5).T
    return Retaken(*(np.ascontiguousarray(column) for column in columns))


def _one(record: Record, world: World, label: float) -> tuple[float, float, float, float, float] | None:
    _, _, now_ms, seed, rung, versions, _, inputs_row, decision_row = record[:9]
    if versions[3] != schema_hash() or rung != "model":
        return None
    before = Decision.from_list(decision_row)
    campaign = world.book.campaigns.get(before.campaign or "")
    if not before.slots or before.holdout or before.plain in UNSHOWN or campaign is None:
        return None
    inputs = Inputs.from_list(inputs_row)
    drawn, slot = before.slots[0].drawn, before.slots[0]
    logged = slot.propensities[slot.candidates.index(drawn)]
    after = decide(inputs, world, now_ms=now_ms, rng=SeededDice(seed))
    chances = {verdict.offer: verdict.p for verdict in after.verdicts if verdict.p is not None}
    chances[NONE] = after.conversion or 0.0
    shares = dict.fromkeys((NONE,), 1.0)
    if after.campaign == before.campaign and after.slots:
        shares = dict(zip(after.slots[0].candidates, after.slots[0].propensities, strict=True))
    elif after.campaign != before.campaign:
        shares = {}
    worth = _worths(campaign, slot.candidates, {drawn, *shares}, inputs)
    q_target = sum(share * chances.get(name, 0.0) * worth[name] for name, share in shares.items())
    q_logged = chances.get(drawn, chances[NONE]) * worth[drawn]
    return label * worth[drawn], logged, min(1.0, shares.get(drawn, 0.0)), q_logged, q_target


def _worths(campaign: CompiledCampaign, eligible: list[str], names: set[str], inputs: Inputs) -> dict[str, float]:
    """What a conversion is worth with each of these offers (and with none)."""
    offers = campaign.offer_by_name
    each = [offers[name].value.amount(inputs.cart[1]) for name in eligible if name in offers]
    value = sum(each) / len(each) if each else 1.0
    return {name: value - (offers[name].cost if name in offers else 0.0) for name in names}
