"""The trainer learns when something is due, hands on only what passed every gate, and changes nothing by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from actors.runs import Runs
from engine.schema import MODEL_FEATURES
from tests.actors.school import DAY, HOUR, MINUTE, School, examples
from training.due import Cadence
from training.learner import reproduce, rows_table


async def a_school_with_a_champion(**settings: Any) -> School:
    school = await School(**settings).open()
    school.source.arrive(examples(1_500))
    await school.step()
    await school.promote()
    await school.step()
    return school


async def test_the_first_model_comes_from_enough_rows_and_goes_through_the_rollout() -> None:
    school = await School().open()
    school.source.arrive(examples(999))
    assert await school.step() is None
    school.source.arrive(examples(600, seed=2, start_ms=10**6))
    run = await school.step()
    assert run is not None
    assert (run["why"], run["recipe"], run["state"], run["n_rows"]) == ("first", "retrain", "submitted", 1_599)
    assert (run["candidate"], run["rollout"], run["champion"]) == (school.handed[0], "r1", "prior-1")
    assert {finding["gate"]: finding["verdict"] for finding in run["findings"]}["log_loss"] == "passed"
    assert await school.in_force() == "prior-1"


async def test_a_candidate_carries_its_gates_and_is_grown_again_from_its_card() -> None:
    school = await School().open()
    school.source.arrive(examples(1_500))
    await school.step()
    model = await school.model(school.handed[0])
    rows = school.source.columns(10_000)
    assert reproduce(model.card, rows_table(rows.x, rows.y, rows.t_ms)).blob == model.blob
    assert {"schema", "leakage", "finite", "log_loss", "latency"} <= {gate["gate"] for gate in model.card.gates}


async def test_new_labels_refit_the_champion_and_the_number_of_trees_stays() -> None:
    school = await a_school_with_a_champion()
    first = await school.model(school.handed[0])
    school.source.arrive(examples(399, seed=3, start_ms=DAY))
    assert await school.step(11 * MINUTE) is None
    school.source.arrive(examples(800, seed=4, start_ms=2 * DAY))
    run = await school.step()
    assert run is not None
    assert (run["why"], run["recipe"]) == ("labels", "refit")
    for _ in range(4):
        await school.step(11 * MINUTE)
    for version in school.handed:
        assert (await school.model(version)).blob.count(b"Tree=") == first.blob.count(b"Tree=")


async def test_the_daily_hour_grows_new_trees_once() -> None:
    cadence = Cadence(labels=10_000, refit_every_ms=MINUTE, retrain_hour=3, first_rows=1_000)
    school = await a_school_with_a_champion(cadence=cadence)
    school.source.arrive(examples(300, seed=5, start_ms=DAY))
    assert await school.step(2 * HOUR) is None
    run = await school.step(14 * HOUR)
    assert run is not None
    assert (run["why"], run["recipe"]) == ("schedule", "retrain")
    school.source.arrive(examples(300, seed=6, start_ms=2 * DAY))
    assert await school.step(HOUR) is None


async def test_a_world_that_turns_round_is_noticed_and_learned_anew() -> None:
    cadence = Cadence(labels=2_000, refit_every_ms=MINUTE, retrain_hour=None, first_rows=1_000)
    school = await a_school_with_a_champion(cadence=cadence)
    school.source.arrive(examples(900, seed=7, start_ms=DAY))
    assert await school.step(2 * MINUTE) is None
    school.source.arrive(examples(900, seed=8, start_ms=2 * DAY, turned=True))
    run = await school.step(2 * MINUTE)
    assert run is not None
    assert (run["why"], run["recipe"]) == ("drift", "retrain")
    assert any(told.startswith(("log_loss", "residual")) for told in run["alarms"])
    assert (await school.runs.told() or {})["alarms"] >= 1


async def test_rows_of_another_kind_are_noticed_by_their_features() -> None:
    cadence = Cadence(labels=600, refit_every_ms=0, retrain_hour=None, first_rows=1_000)
    school = await a_school_with_a_champion(cadence=cadence)
    strange = examples(700, seed=9, start_ms=DAY)
    for one in strange:
        one.row[MODEL_FEATURES.index("n_sessions")] += 40
    school.source.arrive(strange)
    run = await school.step(MINUTE)
    assert run is not None
    assert run["why"] == "drift"
    assert any("n_sessions" in told for told in run["alarms"])


async def test_what_is_asked_for_while_another_waits_joins_it_and_one_runs_at_a_time() -> None:
    school = await School().open()
    one = await school.trainer.ask(recipe="refit")
    assert await school.trainer.ask(recipe="retrain") == one
    assert (await school.trainer.status(one))["recipe"] == "retrain"
    assert await school.runs.take("somebody else", 60_000)
    school.source.arrive(examples(1_200))
    assert await school.step() is None
    assert (await school.trainer.status(one))["state"] == "queued"
    await school.runs.let_go("somebody else")
    assert (await school.step() or {})["id"] == one


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (examples(120), "too_few_labels"),
        ([one for one in examples(3_000) if not one.label], "one_class"),
        ([one for one in examples(6_000) if one.label], "one_class"),
    ],
)
async def test_rows_that_cannot_teach_end_a_run_with_a_reason_and_the_champion_stays(
    rows: list[Any], code: str
) -> None:
    school = await School().open()
    school.source.arrive(rows)
    run_id = await school.trainer.ask()
    run = await school.step()
    assert run is not None
    assert (run["id"], run["state"], run["reason"]) == (run_id, "refused", code)
    assert run["message"]
    assert (school.handed, await school.in_force()) == ([], "prior-1")


async def test_rows_of_another_feature_layout_end_a_run_with_a_reason() -> None:
    school = await School().open()
    school.source.arrive(examples(1_500))
    school.source.schema = "feedfacefeedface"
    run = await school.step()
    assert run is not None
    assert (run["state"], run["reason"]) == ("refused", "schema_changed")
    assert "feedfacefeedface" in run["message"]


async def test_a_candidate_that_fails_a_gate_is_not_kept_and_the_gate_is_named() -> None:
    school = await School().open()
    leaking = examples(1_500)
    for one in leaking:
        one.row[MODEL_FEATURES.index("n_purchases")] = 9.0 * one.label
    school.source.arrive(leaking)
    run = await school.step()
    assert run is not None
    assert (run["state"], run["reason"]) == ("refused", "gate_leakage")
    assert "n_purchases" in run["message"]
    assert await school.stores.versions.list("model") == []


async def test_a_broken_champion_is_named_and_nothing_is_changed() -> None:
    school = await a_school_with_a_champion()
    version = school.handed[0]
    card, blob = await school.stores.versions.get("model", version) or ({}, b"")
    await school.stores.versions.delete("model", version)
    await school.stores.versions.put("model", version, card, blob[:-40] + b"0" * 40)
    school.trainer = school.trainer_of("trainer")
    run_id = await school.trainer.ask()
    run = await school.step()
    assert run is not None
    assert (run["id"], run["state"], run["reason"]) == (run_id, "refused", "broken_model")
    assert await school.in_force() == version


async def test_a_candidate_whose_bytes_do_not_come_back_whole_is_not_handed_on(monkeypatch: Any) -> None:
    school = await School().open()
    put = school.stores.versions.put

    async def spoil(kind: str, version: str, meta: Any, blob: bytes) -> None:
        await put(kind, version, meta, blob[:-1] + b"?")

    monkeypatch.setattr(school.stores.versions, "put", spoil)
    school.source.arrive(examples(1_500))
    run = await school.step()
    assert run is not None
    assert (run["state"], run["reason"]) == ("refused", "broken_model")
    assert school.handed == []


async def test_a_champion_of_an_older_feature_layout_counts_as_the_prior() -> None:
    school = await a_school_with_a_champion()
    card, blob = await school.stores.versions.get("model", school.handed[0]) or ({}, b"")
    await school.stores.versions.put(
        "model", "lgbm-older", {**card, "version": "lgbm-older", "schema_hash": "0" * 16}, blob
    )
    await school.put_in_force(model="lgbm-older")
    school.source.arrive(examples(500, seed=5, start_ms=DAY))
    run = await school.step(11 * MINUTE)
    assert run is not None
    assert (run["why"], run["champion"], run["state"]) == ("first", "prior-1", "submitted")


async def test_a_run_that_waits_is_cancelled_at_once_and_one_under_way_at_its_next_tree(monkeypatch: Any) -> None:
    school = await School(params={"n_rounds": 50_000}).open()
    waiting = await school.trainer.ask()
    assert (await school.trainer.cancel(waiting))["state"] == "cancelled"
    school.source.arrive(examples(1_200))
    monkeypatch.setattr("actors.trainer.BEAT_S", 0.01)
    turn = asyncio.create_task(school.step())
    await school.until_under_way()
    [under_way] = [run for run in await school.runs.list() if run["state"] == "running"]
    assert under_way["stage"] == "fitting"
    await school.trainer.cancel(under_way["id"])
    run = await turn
    assert run is not None
    assert (run["state"], run["reason"]) == ("cancelled", "cancelled")
    assert school.handed == []


async def test_a_run_found_under_way_at_the_start_is_taken_up_again_and_given_up_after_three_deaths() -> None:
    school = await School().open()
    school.source.arrive(examples(1_200))
    run_id = await school.trainer.ask()
    dead = {"state": "running", "owner": "trainer", "attempt": 1, "share": 0.4}
    assert await school.runs.change(run_id, "queued", **dead)
    assert await school.runs.take("trainer", 1)
    run = await school.step()
    assert run is not None
    assert (run["id"], run["state"], run["attempt"]) == (run_id, "submitted", 2)

    other = await school.runs.ask("request")
    assert await school.runs.change(other[0], "queued", **{**dead, "attempt": 3})
    school.trainer = school.trainer_of("trainer")
    await school.step()
    given_up = await school.trainer.status(other[0])
    assert (given_up["state"], given_up["reason"]) == ("failed", "trainer_died")


async def test_a_run_of_a_job_that_died_is_taken_up_when_it_has_been_silent_for_long_enough() -> None:
    school = await School(stale_ms=60_000).open()
    school.source.arrive(examples(1_200))
    run_id = await school.trainer.ask()
    assert await school.runs.take("job elsewhere", 60_000)
    assert await school.runs.change(run_id, "queued", state="running", owner="job elsewhere", attempt=1)
    assert await school.step(59_000) is None
    run = await school.step(2_000)
    assert run is not None
    assert (run["id"], run["state"], run["attempt"], run["owner"]) == (run_id, "submitted", 2, "trainer")


async def test_a_trainer_that_is_stopped_leaves_its_run_for_the_next_start(monkeypatch: Any) -> None:
    school = await School(params={"n_rounds": 50_000}).open()
    monkeypatch.setattr("actors.trainer.BEAT_S", 0.01)
    school.source.arrive(examples(1_200))
    run_id = await school.trainer.ask()
    school.trainer.start()
    await school.until_under_way()
    await school.trainer.stop()
    left = await school.trainer.status(run_id)
    assert (left["state"], left["attempt"]) == ("queued", 0)


async def test_churn_is_learned_through_the_same_loop_and_put_in_force() -> None:
    school = await a_school_with_a_champion(churn=True)
    rng = np.random.default_rng(4)
    visits = examples(2_500, seed=11, start_ms=DAY, every_ms=10 * MINUTE)
    again = [one for one in visits if rng.random() < 0.2 + 0.25 * one.row[MODEL_FEATURES.index("n_sessions")]]
    back = examples(len(again), seed=12, start_ms=3 * DAY, every_ms=8 * MINUTE)
    school.source.arrive(visits)
    school.source.arrive([one._replace(track=first.track) for one, first in zip(back, again, strict=True)])
    school.source.arrive([examples(1, seed=13)[0]._replace(t_ms=60 * DAY)])
    done = [await school.step(2 * DAY) for _ in range(3)]
    churn = [run for run in done if run is not None and run["target"] == "churn"]
    assert [run["state"] for run in churn][:1] == ["published"], churn
    assert (await school.stores.versions.world())["churn"] == churn[0]["candidate"]
    assert await school.in_force() == school.handed[0]


async def test_runs_are_read_back_by_whoever_reaches_the_store() -> None:
    school = await School().open()
    elsewhere = Runs(school.stores.documents, school.clock)
    run_id, joined = await elsewhere.ask("request", "retrain")
    assert not joined
    school.source.arrive(examples(1_300))
    await school.step()
    assert (await elsewhere.get(run_id))["state"] == "submitted"
    told = await elsewhere.told()
    assert told is not None
    assert (told["champion"], told["rows"], told["runs"]) == ("prior-1", 1_300, {"submitted": 1})


async def test_what_is_open_is_known_without_reading_what_is_over() -> None:
    school = await School().open()
    school.source.arrive(examples(1_200))
    first, _ = await school.runs.ask("request")
    second, _ = await school.runs.ask("request", target="churn")
    assert [run["id"] for run in await school.runs.open()] == [first, second]
    await school.step()
    await school.runs.cancel(second)
    assert await school.runs.open() == []
    assert [run["state"] for run in await school.runs.list()] == ["submitted", "cancelled"]


async def test_between_its_reads_the_journal_is_read_only_for_a_run_that_waits() -> None:
    school = await School().open()
    school.source.arrive(examples(600))
    assert await school.trainer.step(reads=False) is None
    assert school.source.n_rows == 0
    await school.trainer.ask()
    run = await school.trainer.step(reads=False)
    assert run is not None
    assert (run["state"], run["n_rows"]) == ("submitted", 600)
