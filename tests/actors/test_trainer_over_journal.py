"""The trainer over a real journal: what visitors did becomes a model, logged choices are valued by their records."""

from __future__ import annotations

import asyncio
import copy
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.catalogues import OfferPublisher
from actors.history import History
from actors.lessons import Session
from actors.publishing import Publisher
from actors.runs import Runs
from actors.trainer_host import TrainerHost, Training, assemble, records_of
from actors.trainer_settings import TrainerOptions, TrainerSettings
from engine.posteriors import Belief
from engine.prior import PriorModel
from engine.signals import Signal
from tests.actors.school import FEW
from tests.actors.town import BOOK, Town, scroll
from training.due import Cadence
from training.learner import reproduce, rows_table
from training.registry import Registry
from training.retake import retake

MINUTE = 60_000
SETTINGS = TrainerSettings(
    cadence=Cadence(labels=10_000, first_rows=10_000, retrain_hour=None), fewest_rows=200, params=FEW, churn=False,
    grace_ms=0, tick_ms=10,
)  # fmt: skip


def a_book() -> dict[str, Any]:
    book = copy.deepcopy(BOOK)
    campaign = book["campaigns"]["cart"]
    campaign["policy"] = {"kind": "epsilon_greedy", "epsilon": 0.5}
    campaign["offers"]["capped"].pop("caps")
    campaign["offers"]["free"].pop("when")
    return book


async def visits(town: Town, n: int) -> None:
    """Visitors who buy the sooner the deeper they have read; afterwards their time is over."""
    dice = random.Random(2)
    for i in range(n):
        track, share = f"anon:{i}", dice.random()
        now_ms = town.clock.now_ms = town.clock.now_ms + 1_000
        await town.observe(track, scroll(share, now_ms, f"s{i}"), received_ms=now_ms)
        await town.decide(track, received_ms=now_ms)
        if dice.random() < 0.05 + 0.6 * share:
            bought = Signal("order_completed", now_ms + 500, i + 1, {"order_id": f"o{i}", "value": 40.0})
            await town.observe(track, bought, received_ms=now_ms + 500)
    town.clock.now_ms += 30 * MINUTE


async def a_training(town: Town, **more: Any) -> Training:
    options = TrainerOptions("", settings=replace(SETTINGS, **more), alone=False)
    return await assemble(town.stores, options, town.clock)


@pytest.fixture
async def town() -> Any:
    town = await Town().start(a_book())
    yield town
    await town.stop()


async def test_what_visitors_did_becomes_a_candidate_in_shadow_and_choices_are_valued(town: Town) -> None:
    await visits(town, 420)
    training = await a_training(town)
    run_id = await training.trainer.ask()
    run = await training.trainer.step()
    assert run is not None
    assert (run["id"], run["state"]) == (run_id, "submitted"), run
    assert 400 <= run["n_rows"] <= 420
    [value] = [finding for finding in run["findings"] if finding["gate"] == "value"]
    assert value["n"] > 50
    assert abs(value["mean_weight"] - 1) < 0.3
    pointer = await town.stores.versions.world()
    assert (pointer["model"], pointer["rollout"]["candidate"]) == ("prior-1", run["candidate"])
    model = await Registry(town.stores.versions).load(run["candidate"])
    rows = training.learning.columns(10_000)
    assert reproduce(model.card, rows_table(rows.x, rows.y, rows.t_ms)).card == model.card
    await training.close()


async def test_a_trainer_that_begins_again_learns_the_same_from_what_it_saved(town: Town) -> None:
    await visits(town, 260)
    first = await a_training(town, params={"n_rounds": 5})
    await first.trainer.step()
    seen = first.learning.columns(10_000)
    await first.close()
    second = await a_training(town, params={"n_rounds": 5})
    await second.trainer.step()
    again = second.learning.columns(10_000)
    assert again.keys == seen.keys
    assert (again.y == seen.y).all()
    assert second.learning.n_entries == 0
    await second.close()


async def test_the_twin_in_a_thread_trains_as_the_actor_does(town: Town) -> None:
    await visits(town, 260)
    runs = Runs(town.stores.documents, town.clock)
    run_id, _ = await runs.ask("request")
    host = TrainerHost(TrainerOptions("", settings=SETTINGS, alone=False), lambda _: town.stores, town.clock)
    host.start()
    try:
        while (run := await runs.get(run_id))["state"] in ("queued", "running"):  # noqa: ASYNC110 (in another thread)
            await asyncio.sleep(0.02)
        assert (run["state"], run["owner"]) == ("submitted", "trainer"), run
        assert (host.stood_back, host.describe()["begun"]) == ([], True)
    finally:
        await asyncio.to_thread(host.stop)


async def test_choices_are_taken_again_with_what_outcomes_had_taught_then(town: Town) -> None:
    book = a_book()
    book["campaigns"]["cart"]["policy"] = {"kind": "thompson"}
    await town.publish(book)
    publisher = Publisher(town.stores.versions, town.stores.table, town, town.clock)
    offers, now_ms = OfferPublisher(town.stores.versions, publisher, town.clock), town.clock.now_ms
    taught = await offers.publish_posteriors({"cart.free": {"": Belief(400.0, 80.0, 20.0)}})
    ids = [(await town.decide(f"anon:{i}", received_ms=now_ms))["decision"]["decisionId"] for i in range(20)]
    await offers.publish_posteriors({"cart.free": {"": Belief(400.0, 5.0, 20.0)}})
    records = await records_of(History(town.stores.journal, None, foreign=True))(ids)
    assert records.keys() == set(ids)
    session, prior, worlds = Session(town.stores.versions, town.clock), PriorModel(), {}
    taken = [(one, await session._world_of(one, prior, worlds), 0.0) for one in records.values()]
    assert {world.posteriors_version for _, world, _ in taken} == {taught}
    same = retake(taken)
    np.testing.assert_allclose(same.target, same.propensity, atol=1e-12)
    # What has been taught since would have chosen otherwise.
    later = [(one, replace(world, posteriors=None), label) for one, world, label in taken]
    assert not np.allclose(retake(later).target, same.propensity)
