"""A ready reply is told from JSON by its first byte; what the ingress must look into is never ready."""

from __future__ import annotations

import orjson
import pytest

from actors.ready_reply import answer_in, packed, rung_of
from engine.decision import RUNGS


@pytest.mark.parametrize("rung", RUNGS)
def test_a_ready_reply_reads_back_with_its_rung(rung: str) -> None:
    decision = {"decisionId": "d", "degraded": None if rung == "model" else {"rung": rung, "reason": "NO_MODEL"}}
    reply = {"decision": decision, "status": 200}
    raw = packed(reply)
    assert raw is not None
    assert rung_of(raw) == rung
    assert orjson.loads(raw[1:]) == decision
    assert answer_in(raw) == reply


@pytest.mark.parametrize(
    "reply",
    [
        {"error": {"code": "unknown_placement"}},
        {"unavailable": {"code": "recovering"}},
        {"moved": "user:u"},
        {"decision": {"degraded": None, "tier1": {"agreement": 1.0}}, "status": 200},
    ],
)
def test_what_is_to_be_looked_into_is_not_ready(reply: dict[str, object]) -> None:
    assert packed(reply) is None
    raw = orjson.dumps(reply)
    assert rung_of(raw) is None
    assert answer_in(raw) == reply


def test_nothing_is_no_answer() -> None:
    assert (rung_of(b""), answer_in(b"")) == (None, {})
