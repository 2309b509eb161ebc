"""Rollouts over HTTP: who did what and why comes in, what stands where goes out."""

from __future__ import annotations

import pytest

from tests.serving.house import House, is_problem


@pytest.fixture
def house() -> House:
    return House()


async def test_what_stands_where_is_told(house: House) -> None:
    told = (await house.get("/v1/rollouts")).json()
    assert told["running"]["id"] == "r1"
    assert told["rollouts"][0]["stages"] == ["shadow", "canary 1 %", "canary 5 %", "canary 25 %", "canary 50 %"]


async def test_a_kept_candidate_is_submitted(house: House) -> None:
    response = await house.post("/v1/rollouts", {"version": "m2", "by": "ann", "why": "the old one is stale"})
    assert response.status_code == 202
    await house.post("/v1/rollouts", {"kind": "book", "version": "b7"})
    assert house.desk.log == [("model", "m2", "ann", "the old one is stale"), ("book", "b7", "api", "")]


@pytest.mark.parametrize("verb", ["promote", "rollback", "pause", "resume"])
async def test_people_steer_and_are_named(house: House, verb: str) -> None:
    assert (await house.post(f"/v1/rollouts/r1/{verb}", {"by": "ann", "why": "a sale"})).json()["id"] == "r1"
    assert (await house.client.post(f"/v1/rollouts/r1/{verb}")).status_code == 200, "without a body as well"
    assert house.desk.log == [("r1", verb, "ann", "a sale"), ("r1", verb, "api", "")]


async def test_what_is_wrong_is_said(house: House) -> None:
    assert is_problem(await house.post("/v1/rollouts/r9/pause", {}), 404, "unknown_rollout")
    assert is_problem(await house.post("/v1/rollouts", {}), 400, "bad_version")
    assert is_problem(await house.post("/v1/rollouts", {"version": "m", "kind": "offer"}), 400, "bad_kind")
    assert is_problem(await house.post("/v1/rollouts/r1/pause", {"by": 7}), 400, "bad_body")
    assert is_problem(await house.post("/v1/rollouts/r1/forget", {}), 404, "unknown_path")
    assert house.desk.log == []
