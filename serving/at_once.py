"""Events of a request that need no more than to be told to their shards: sent at once, one frame to each shard.

A task a visitor costs more than the visitor's events do, and a frame a visitor nearly as much. What does not come back
with results, for whatever reason, is left to be asked for patiently: its messages make it repeatable.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from actors.asking import Asks
from actors.begun import Begun
from engine.errors import Unavailable
from serving.fan import Chain, Outcome, Step
from serving.ports import Answer

MOST_AT_ONCE: Final = 512
"""Chains of one batch that are sent without waiting for any."""


async def send_at_once(
    asks: Asks, work: list[Chain], common: dict[str, Any], timeout_s: float, outcomes: list[Outcome]
) -> tuple[list[Chain], list[str]]:
    """Send what is one plain step for a shard that is known and connected; `common` goes with every part.

    Returns the chains left to do, and a reason for each that the time ran out for.
    """
    plain = [chain for chain in work if len(chain) == 1 and not chain[0].links][:MOST_AT_ONCE]
    taken = {id(chain) for chain in plain}
    left, late = [chain for chain in work if id(chain) not in taken], list[str]()
    shared: list[dict[str, Any]] = []
    places: dict[tuple[int, int], int] = {}
    asked = []
    for (step,) in plain:
        place = places.setdefault((id(step.context), id(step.consent)), len(shared))
        if place == len(shared):
            shared.append({"context": step.context, "consent": step.consent, **common})
        asked.append((step.track, place, {"track": step.track, "signals": step.signals}))
    sent, unsent = asks.begin_together("observe", shared, asked)
    left += [plain[i] for i in unsent]
    timer = asyncio.get_running_loop().call_later(timeout_s, _strike, [begun for begun, _ in sent])
    try:
        for begun, indexes in sent:
            answers = await _came_back(begun)
            if begun.late is not None:
                late += ["deadline_exceeded"] * len(indexes)
                continue
            told = zip(answers, indexes, strict=True) if answers else ((dict[str, Any](), i) for i in indexes)
            left += [plain[i] for answer, i in told if not taken_in(answer, plain[i][0], outcomes)]
    finally:
        timer.cancel()
        for begun, _ in sent:
            begun.forget()
    return left, late


def taken_in(answer: Answer, step: Step, outcomes: list[Outcome]) -> bool:
    """Give every event of a step what the shard answered for it; False where that is no result."""
    if spread(answer, step, outcomes):
        return True
    results = answer.get("results")
    if results is None:
        return False
    for index, result in zip(step.indexes, results, strict=True):
        outcomes[index] = result
    return True


def spread(answer: Answer, step: Step, outcomes: list[Outcome]) -> bool:
    """Give every event of a step the error that the shard answered with, if it did."""
    error = answer.get("error")
    if error is None:
        return False
    for index in step.indexes:
        outcomes[index] = {"code": str(error.get("code")), "message": str(error.get("message"))}
    return True


def _strike(sent: list[Begun]) -> None:
    for begun in sent:
        begun.strike()


async def _came_back(begun: Begun) -> list[Answer]:
    """The answers to what was sent together; none where they did not come."""
    try:
        raw = await begun.answer
    except Unavailable:
        return []
    answers: list[Answer] = orjson.loads(raw).get("answers", []) if raw else []
    return answers
