"""What a journal record of a decision or of a visit teaches: the example before anything came of it, and its goal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.assess import model_row
from engine.compiled import CompiledBook, Value
from engine.decision import UNSHOWN, Decision
from engine.inputs import Inputs
from engine.record import Record
from engine.schema import schema_hash
from engine.served import served_campaign, served_row
from training.example import Example

Books = Callable[[str], CompiledBook | None]
"""The campaign book of a version; None where it is no longer kept."""
NO_VALUE: Final = Value("fixed", 0.0, 0.0, 0.0)
SCHEMA: Final = schema_hash()


@dataclass(frozen=True, slots=True)
class Goal:
    """What counts as success for one example, how soon after it, and what it is worth with this cart."""

    kind: str
    within_ms: int
    value: Value
    cart: float
    visit: bool = False


Taught = tuple[Example, Goal]


def of_decision(record: Record, key: str, books: Books) -> Taught | None:
    """The example of a decision record; None for what never enters.

    Bots, QA and previews, no consent to personalise or to train, an answer without a campaign, a record of another
    feature schema, or of a book that is no longer kept.
    """
    versions, inputs = record[5], Inputs.from_list(record[7])
    if versions[3] != SCHEMA or inputs.bot or not (inputs.train and inputs.personalise and inputs.recordable):
        return None
    if inputs.supply is not None and inputs.supply.forced is not None:
        return None
    book, decision = books(versions[1]), Decision.from_list(record[8])
    if book is None:
        return None
    row, campaign = served_row(inputs, book, decision), served_campaign(book, decision)
    if row is None or campaign is None:
        return None
    row.flags.writeable = False
    offer, propensity = _shown(decision)
    trial = decision.trial
    example = Example(
        key=key, revision=1, track=record[1], t_ms=record[2], campaign=campaign.name, offer=offer,
        propensity=propensity, row=row, label=0, value=0.0, engaged=False, model=decision.model, arm=decision.arm,
        trial=None if trial is None else (trial[0], trial[1], trial[2], trial[3], trial[4]),
        matured=False, degraded=decision.rung != "model", took_us=record[9] if len(record) > 9 else 0,
        book=versions[1], holdout=decision.holdout, segment=decision.segments[0] if decision.segments else "",
    )  # fmt: skip
    goal = Goal(campaign.conversion_kind, campaign.conversion_within_ms, campaign.conversion_value, inputs.cart[1])
    return example, goal


def _shown(decision: Decision) -> tuple[str | None, float]:
    """The first offer shown, or None, and how likely that was."""
    if decision.holdout or not decision.slots or decision.plain in UNSHOWN:
        return None, 1.0
    first = decision.slots[0]
    propensity = first.propensities[first.candidates.index(first.drawn)] if first.drawn in first.candidates else 1.0
    return (decision.served[0].rpartition(".")[2] if decision.served else None), propensity


def of_visit(record: Record, key: str) -> Taught | None:
    """The example of a visit without a decision; None for one of another feature schema."""
    _, root, t_ms, _, features, context, km, versions, goal = record
    if versions[3] != SCHEMA:
        return None
    known = [math.nan if x is None else x for x in features]
    row = np.array(model_row(known, context, math.nan if km is None else km))
    row.flags.writeable = False
    example = Example(
        key=key, revision=1, track=root, t_ms=t_ms, campaign=goal[0], offer=None, propensity=1.0, row=row, label=0,
        value=0.0, engaged=False, model="", arm="champion", trial=None, matured=False, degraded=False, took_us=0,
        book=versions[1],
    )  # fmt: skip
    return example, Goal(goal[1], goal[2], NO_VALUE, 0.0, visit=True)
