"""`kairos rollout` says what stands where in plain words, and steers it under a name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import Conflict
from serving.cli import main
from serving.cli import rollout as command
from serving.rollout_told import overview

RUNNING: dict[str, Any] = {
    "id": "r3", "kind": "model", "candidate": "m2", "champion": "m1", "phase": "running", "stage": "canary 5 %",
    "share": 0.05, "stageSeconds": 61.0, "why": "", "by": "kairos", "reason": "", "submittedMs": 1, "startedMs": 1,
    "endedMs": None, "stages": ["shadow", "canary 5 %", "canary 50 %"],
}  # fmt: skip
EVIDENCE: dict[str, Any] = {
    "users": 12_000, "exposed": 300, "crossedOver": 2, "guards": {"conversion": -1.25, "score faults": None},
    "sampleRatio": 0.1, "notWorse": 0.5, "slowAboveUs": None, "scoreFaults": 0,
    "logLoss": {"pairs": 12_000, "champion": 0.2, "difference": -0.001, "upper": None, "allowed": 0.002},
    "stages": [{"stage": "shadow", "share": 0, "users": 6000},
               {"stage": "canary 5 %", "share": 0.05, "users": [5700, 300], "conversions": [285, 15],
                "conversionRatio": [0.5, None]}],
}  # fmt: skip
STATUS: dict[str, Any] = {
    "rollouts": [RUNNING], "running": {**RUNNING, "evidence": EVIDENCE}, "waiting": None, "policy": "one at a time",
    "traffic": {"usersPerDay": 20_000.0, "conversion": 0.05},
    "expected": {"days": 4.5, "stages": [4.5], "exposedUsers": 9.0, "withinHorizon": True},
    "audit": [{"n": 1, "rollout": "r3", "what": "started", "by": "kairos", "why": "shadow", "at_ms": 0, "numbers": {}}],
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    log: list[tuple[Any, ...]] = []

    def remote(method: str, url: str, path: str, key: str | None, body: Any = None) -> dict[str, Any]:
        log.append((method, path, body))
        if path.endswith("/resume"):
            raise Conflict("rollout_not_running", "rollout r3 is running, it cannot be resumed")
        return STATUS if method == "GET" else RUNNING

    monkeypatch.setattr(command, "remote", remote)
    return log


def test_the_list_says_stage_evidence_and_what_is_expected(
    asked: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollout", "list"]) == 0
    told = capsys.readouterr().out
    for words in ("running     r3 model m2 against m1", "canary 5 % for 61 s", "300 exposed, 2 crossed over",
                  "conversion -1.25, score faults ∞", "at most unknown", "ratio 0.50 – ∞", "4.5 days",
                  "1970-01-01 00:00:00Z  r3 started by kairos"):  # fmt: skip
        assert words in told
    assert main(["rollout"]) == 0
    assert capsys.readouterr().out == told
    assert main(["rollout", "--json", "--url", "http://elsewhere"]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS
    assert main(["rollout", "--url", "http://elsewhere", "rollback", "r3"]) == 2
    assert "--url belongs behind 'rollback'" in capsys.readouterr().err
    assert [method for method, _, _ in asked] == ["GET", "GET", "GET"]


def test_people_steer_by_name_and_a_refusal_is_said(
    asked: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollout", "rollback", "r3", "--by", "ann", "--why", "complaints"]) == 0
    assert asked == [("POST", "/v1/rollouts/r3/rollback", {"by": "ann", "why": "complaints"})]
    assert main(["rollout", "resume", "r3"]) == 1
    assert "cannot be resumed (rollout_not_running)" in capsys.readouterr().err
    assert main(["rollout", "show", "r9"]) == 1


def test_what_is_expected_is_told_before_a_start(
    asked: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollout", "start", "m2", "--by", "ann", "--json"]) == 0
    told = capsys.readouterr()
    assert "4.5 days until an equal candidate is promoted" in told.err
    assert json.loads(told.out)["id"] == "r3"
    assert asked[-1] == ("POST", "/v1/rollouts", {"kind": "model", "version": "m2", "by": "ann", "why": ""})
    assert main(["rollout", "start", "m2", "--kind", "offer"]) == 2


def test_nothing_under_way_is_said_too() -> None:
    idle = {**STATUS, "running": None, "waiting": {**RUNNING, "id": "r4"},
            "expected": {"days": None, "stages": [], "exposedUsers": None, "withinHorizon": False}}  # fmt: skip
    told = "\n".join(overview(idle))
    assert "running     nothing" in told
    assert "waiting     r4" in told
    assert "not known" in told


def test_the_rule_can_be_tried_on_a_shop_like_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "simulate", "--n", "2", "--conversion", "0.3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["candidate"]: row["exposed"] for row in rows}["inverted"] == 0
