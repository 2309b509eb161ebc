"""A decision that has been taken: what it is answered with, by whether the journal took it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actors.desk import Desk
from engine.decide import decide
from engine.decision import Decision
from engine.dice import SeededDice
from engine.explain import explain
from engine.harmony import tell_source
from engine.inputs import Inputs
from engine.world import World


@dataclass(slots=True)
class Decided:
    """A decision taken but not yet durable, with what is needed to answer should it not become so."""

    inputs: Inputs
    seed: int
    decision: Decision
    decision_id: str
    world: World
    now_ms: int
    verdicts: dict[str, Any] | None
    """What became of the signals that the request brought."""


def answer_of(decided: Decided, desk: Desk, payload: dict[str, Any]) -> dict[str, Any]:
    """The reply to a decide call, with its explanation where that was asked for. It changes nothing."""
    decision, inputs = decided.decision, decided.inputs
    body = decision.response(inputs.root, inputs.request.placement, decided.decision_id)
    if inputs.request.source is not None:
        tell_source(body, inputs.request.source)
    desk.finish(body, decision, inputs, decided.decision_id)
    if decided.verdicts is not None:
        body["signals"] = decided.verdicts
    if payload.get("explain"):
        body["explain"] = explain(inputs, decided.world, decision, decided.now_ms)
    return {"decision": body, "status": 200}


def unrecorded(decided: Decided) -> dict[str, Any]:
    """The same decision where the journal could not take it: nothing capped, nothing budgeted, never training."""
    inputs = decided.inputs
    inputs.recordable = False
    decision = decide(inputs, decided.world, now_ms=decided.now_ms, rng=SeededDice(decided.seed))
    body = decision.response(inputs.root, inputs.request.placement, None)
    body["degraded"] = {"rung": decision.rung, "reason": "NOT_RECORDED"}
    if inputs.request.source is not None:
        tell_source(body, inputs.request.source)
    if decided.verdicts is not None:
        body["signals"] = {**decided.verdicts, "accepted": 0}
    return {"decision": body, "status": 200}
