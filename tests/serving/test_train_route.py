"""Trainings over HTTP: asked for, looked at, ended; what the trainer does with them is told in its own tests."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from serving import examples
from serving.keys import KeyRing, parse_environment
from serving.openapi import openapi
from serving.settings import Settings
from tests.serving.house import NOW_MS, House, is_problem


async def test_a_training_is_accepted_with_an_id_and_a_second_one_joins_it(house: House) -> None:
    first = await house.post("/v1/train", examples.TRAIN)
    again = await house.client.post("/v1/train")
    churn = await house.post("/v1/train", {"target": "churn"})
    assert (first.status_code, first.json()) == (202, {"runId": "t1", "joined": False})
    assert again.json() == {"runId": "t1", "joined": True}
    assert churn.json() == {"runId": "t2", "joined": False}


async def test_a_run_tells_where_it_stands_in_the_shape_of_the_contract(house: House) -> None:
    await house.post("/v1/train", {"recipe": "refit"})
    findings = [{"gate": "log_loss", "verdict": "refused", "value": 0.1, "limit": 0.0, "sentence": "worse"}]
    await house.runs.change("t1", state="refused", reason="gate_log_loss", message="worse", findings=findings)
    run = (await house.get("/v1/train/t1")).json()
    assert (run["runId"], run["state"], run["reason"], run["findings"]) == ("t1", "refused", "gate_log_loss", findings)
    assert (run["recipe"], run["why"], run["askedMs"]) == ("refit", "request", NOW_MS)
    assert not {"owner", "cancel", "id"} & run.keys()
    schema = {"$ref": "#/components/schemas/TrainingRun", "components": openapi()["components"]}
    jsonschema.validate(run, schema)


async def test_the_newest_runs_come_first_beside_how_the_trainer_stands(house: House) -> None:
    assert (await house.get("/v1/train")).json() == {"trainer": None, "runs": []}
    for target in ("conversion", "churn"):
        await house.post("/v1/train", {"target": target})
    await house.runs.tell({"rows": 5, "new_rows": 2, "beat_ms": NOW_MS - 1_500, "runs": {"submitted": 3}, "run": None})
    found = (await house.get("/v1/train")).json()
    assert [run["runId"] for run in found["runs"]] == ["t2", "t1"]
    assert found["trainer"]["newRows"] == 2


async def test_a_run_that_waits_is_cancelled(house: House) -> None:
    await house.post("/v1/train")
    run = (await house.client.post("/v1/train/t1/cancel")).json()
    assert (run["state"], run["reason"]) == ("cancelled", "cancelled")
    assert (await house.client.post("/v1/train/t1/cancel")).json()["state"] == "cancelled"
    assert (await house.post("/v1/train")).json() == {"runId": "t2", "joined": False}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"recipe": "chain"}, "bad_recipe"),
        ({"target": "weather"}, "bad_target"),
        ({"recipe": 3}, "bad_recipe"),
        ([], None),
    ],
)
async def test_what_cannot_be_trained_is_refused(house: House, body: Any, code: str | None) -> None:
    response = await house.post("/v1/train", body)
    assert response.status_code == 400
    assert code is None or is_problem(response, 400, code)
    assert await house.runs.list() == []


async def test_an_unknown_run_is_404(house: House) -> None:
    assert is_problem(await house.get("/v1/train/t9"), 404, "unknown_run")
    assert is_problem(await house.client.post("/v1/train/t9/cancel"), 404, "unknown_run")


async def test_trainings_are_for_administrators() -> None:
    house = House(Settings(), KeyRing(parse_environment("decide:decide-key,admin:admin-key-1")))
    for key, status in (("decide-key", 403), ("admin-key-1", 202)):
        response = await house.client.post("/v1/train", headers={"authorization": f"Bearer {key}"})
        assert response.status_code == status


async def test_metrics_tell_how_the_trainer_stands(house: House) -> None:
    assert "kairos_training" not in (await house.get("/metrics")).text
    await house.runs.tell(
        {
            "rows": 5,
            "new_rows": 2,
            "beat_ms": NOW_MS - 1_500,
            "drift": True,
            "alarms": 1,
            "runs": {"refused": 3},
            "run": "t4",
        }
    )
    lines = (await house.get("/metrics")).text.splitlines()
    for line in (
        "kairos_training_rows 5.0", "kairos_training_drift 1.0", "kairos_training_beat_age_seconds 1.5",
        'kairos_training_runs{state="refused"} 3.0', "kairos_training_under_way 1.0",
    ):  # fmt: skip
        assert line in lines
