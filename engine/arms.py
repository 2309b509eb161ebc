"""The arms of a rollout: whose turn it is to decide, and what the other model says of the row that was served."""

from __future__ import annotations

from typing import Any

from engine.decision import Decision
from engine.inputs import Inputs
from engine.predictor import Predictor
from engine.served import served_row
from engine.sticky import bucket
from engine.world import CANARY, World


def takes_part(inputs: Inputs) -> bool:
    """Whether this visitor may be in a rollout: a human who agreed to be learned from, and an answer on record."""
    forced = inputs.supply is not None and inputs.supply.forced is not None
    return inputs.recordable and inputs.personalise and inputs.train and not inputs.bot and not forced


def arm_for(inputs: Inputs, world: World, now_ms: int) -> tuple[World, list[Any] | None]:
    """The world of the visitor's arm, and the assignment that holds its bucket where that is new.

    The bucket is assigned once a rollout, so that a growing share only ever moves visitors to the challenger.
    """
    trial, side = world.rollout, world.side
    assert trial is not None
    assert side is not None
    if trial.stage != CANARY:
        return world, None
    known, new = inputs.assignments.get(trial.key), None
    if known is None:
        known = new = [bucket(trial.key, inputs.root), now_ms]
    return (side if known[0] < trial.share else world), new


def world_at_signals(inputs: Inputs, world: World) -> World:
    """The world in which a visitor's signals are looked at: that of the arm which has decided for them before."""
    if world.rollout is None or world.rollout.key not in inputs.assignments or not takes_part(inputs):
        return world
    return arm_for(inputs, world, 0)[0]


def compared(decision: Decision, inputs: Inputs, world: World, own: World) -> list[Any]:
    """[rollout, stage, arm, p by the champion, p by the challenger] of the row that was served.

    `own` is the world that decided. A probability is None where its model gave none, or where no campaign decided.
    """
    trial, side = world.rollout, world.side
    assert trial is not None
    assert side is not None
    row = served_row(inputs, own.book, decision)
    said = _said(decision) if row is not None else None
    if trial.kind == "book" or row is None:
        return [trial.id, trial.label, own.arm, said, said]
    other = _asked(side.model if own is not side else world.model, row)
    pair = [other, said] if own is side else [said, other]
    return [trial.id, trial.label, own.arm, *pair]


def _said(decision: Decision) -> float | None:
    """What the deciding model said of the row served."""
    if decision.rung != "model":
        return None
    if not decision.served:
        return decision.conversion
    name = decision.served[0].rpartition(".")[2]
    return next((v.p for v in decision.verdicts if v.offer == name), None)


def _asked(model: Predictor | None, row: Any) -> float | None:
    if model is None:
        return None
    try:
        p = float(model.predict_one(row))
    except Exception:
        return None
    return p if 0.0 <= p <= 1.0 else None
