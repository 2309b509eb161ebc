"""Trials in shards: the pointer moves, the candidate decides for its arm, and nothing that is wrong with it hurts."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import orjson
import pytest

from actors.publishing import Publisher
from actors.worlds import KEPT, Worlds
from engine.book import book_version, load_book
from engine.errors import Conflict, NotFound, Unavailable
from engine.predictor import Predictor
from engine.schema import schema_hash
from engine.world import CHALLENGER, CHAMPION
from tests.actors.town import BOOK, Town, scroll


class Model:
    """Says one number; `breaks` and `schema` make it one that is of no use."""

    kind = "lightgbm"

    def __init__(self, version: str, p: float, schema: str | None = None) -> None:
        self.version, self.p, self.schema_hash = version, p, schema or schema_hash()

    def predict_one(self, row: Any) -> float:
        return self.p

    def predict_many(self, rows: Any) -> Any:
        return np.full(len(rows), self.p)


MODELS: dict[str, Model] = {
    "m1": Model("m1", 0.1), "m2": Model("m2", 0.3), "nan": Model("nan", float("nan")),
    "old": Model("old", 0.2, "another layout"), "wild": Model("wild", 1.7), "churn": Model("churn", 0.9),
}  # fmt: skip


async def load(version: str) -> Predictor:
    if version == "slow":
        raise Unavailable("store_unavailable", "the store does not answer")
    if version not in MODELS:
        raise NotFound("model_unknown", f"there is no model {version!r}")
    return MODELS[version]


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = Town(n_partitions=4)
    town.load_model = load
    await town.start()
    for version in (*MODELS, "broken", "slow"):
        await town.stores.versions.put("model", version, {}, version.encode())
    await publisher(town).publish_model("m1")
    yield town
    await town.stop()


def publisher(town: Town) -> Publisher:
    return Publisher(town.stores.versions, town.stores.table, town, town.clock)


async def pointer(town: Town) -> dict[str, Any]:
    return await town.stores.versions.world()


async def arms(town: Town, n: int = 24, **more: Any) -> dict[str, dict[str, Any]]:
    return {f"anon:{i}": (await town.decide(f"anon:{i}", **more))["decision"] for i in range(n)}


async def test_a_trial_goes_from_shadow_over_its_shares_to_promotion(town: Town) -> None:
    moves = publisher(town)
    moved = await moves.begin_trial("r1", "model", "m2", "shadow")
    assert (moved.refused, (await pointer(town))["rollout"]["candidate"]) == ((), "m2")
    assert {d["model"]["version"] for d in (await arms(town)).values()} == {"m1"}
    await moves.set_trial("r1", "canary", 0.5)
    half = await arms(town)
    assert {(d["model"]["version"], d["model"]["arm"]) for d in half.values()} == {
        ("m1", CHAMPION), ("m2", CHALLENGER),
    }  # fmt: skip
    await moves.set_trial("r1", "canary", 0.9)
    most = await arms(town)
    assert all(most[who]["model"]["version"] == "m2" for who in half if half[who]["model"]["version"] == "m2")
    await moves.end_trial("r1", promoted=True)
    assert ((await pointer(town))["model"], (await pointer(town))["rollout"]) == ("m2", None)
    assert {d["model"]["arm"] for d in (await arms(town)).values()} == {CHAMPION}


async def test_a_roll_back_is_in_force_when_the_verb_returns(town: Town) -> None:
    moves = publisher(town)
    await moves.begin_trial("r1", "model", "m2", "canary", 1.0)
    assert {d["model"]["version"] for d in (await arms(town)).values()} == {"m2"}
    await moves.end_trial("r1", promoted=False)
    assert {d["model"]["version"] for d in (await arms(town)).values()} == {"m1"}


@pytest.mark.parametrize("candidate", ["nan", "old", "wild", "broken"])
async def test_a_candidate_of_no_use_is_refused_with_a_reason_and_the_champion_stays(
    town: Town, candidate: str
) -> None:
    moved = await publisher(town).begin_trial("r1", "model", candidate, "canary", 1.0)
    assert len(moved.refused) == 2  # by either shard
    assert all(candidate in why for why in moved.refused)
    found = await arms(town)
    assert {(d["model"]["version"], d["model"]["arm"], d["degraded"]) for d in found.values()} == {
        ("m1", CHAMPION, None)
    }


async def test_a_candidate_that_cannot_be_fetched_now_is_tried_later(town: Town) -> None:
    await publisher(town).begin_trial("r1", "model", "slow", "canary", 1.0)
    worlds = town.shards[0].worlds
    assert _tried(worlds) is None

    async def by_now(version: str) -> Predictor:
        return MODELS["m2" if version == "slow" else version]

    worlds._load_model = by_now
    assert await worlds.refresh()
    assert _tried(worlds) == "m2"


def _tried(worlds: Worlds) -> str | None:
    rollout = worlds.current.rollout if worlds.current is not None else None
    return rollout.version if rollout is not None else None


async def test_two_trials_never_overlap_and_each_verb_may_be_repeated(town: Town) -> None:
    moves = publisher(town)
    await moves.begin_trial("r1", "model", "m2", "shadow")
    rev = (await pointer(town))["rev"]
    await moves.begin_trial("r1", "model", "m2", "shadow")
    assert (await pointer(town))["rev"] == rev
    with pytest.raises(Conflict, match="r1 has not ended"):
        await moves.begin_trial("r2", "model", "m2", "shadow")
    with pytest.raises(Conflict, match="not under way"):
        await moves.set_trial("r2", "canary", 0.1)
    with pytest.raises(NotFound):
        await moves.begin_trial("r3", "book", "b99-none", "shadow")
    await moves.end_trial("r1", promoted=True)
    after = await pointer(town)
    await moves.end_trial("r1", promoted=False)
    assert await pointer(town) == after


async def test_what_is_published_as_a_whole_ends_a_trial_of_its_kind_alone(town: Town) -> None:
    moves = publisher(town)
    await moves.begin_trial("r1", "model", "m2", "canary", 0.5)
    changed = copy.deepcopy(BOOK)
    changed["campaigns"]["cart"]["priority"] = 3
    await moves.publish_book(load_book(changed), "")
    assert (await moves.trial() or {})["id"] == "r1"
    await moves.publish_model("m1")
    assert await moves.trial() is None


async def test_a_candidate_book_decides_for_its_arm_alone(town: Town) -> None:
    changed = copy.deepcopy(BOOK)
    changed["campaigns"]["cart"]["offers"] = {"plum": {"content": {"headline": "New"}, "value": 20}}
    book = load_book(changed)
    version = book_version(book, 7)
    await town.stores.versions.put("book", version, {}, orjson.dumps(book.data()))
    await publisher(town).publish_model("prior-1")
    await publisher(town).begin_trial("r1", "book", version, "canary", 0.5)
    found = await arms(town)
    by_arm = {arm: {i["id"] for d in found.values() if d["model"]["arm"] == arm for i in d["items"]}
              for arm in (CHAMPION, CHALLENGER)}  # fmt: skip
    assert by_arm == {CHAMPION: {"capped"}, CHALLENGER: {"plum"}}
    for decision in found.values():
        asked = {"decision_id": decision["decisionId"]}
        record = (await town.ask_partition(int(decision["decisionId"].split("_")[1]), "decision", asked))["record"]
        assert (record["versions"]["book"] == version) is (decision["model"]["arm"] == CHALLENGER)


@pytest.mark.parametrize("kind", ["model", "book"])
async def test_both_arms_replay_identically_also_when_the_trial_is_long_over(town: Town, kind: str) -> None:
    changed = copy.deepcopy(BOOK)
    changed["campaigns"]["cart"]["policy"] = {"kind": "epsilon_greedy", "epsilon": 0.5}
    book = load_book(changed)
    version = book_version(book, 7)
    await town.stores.versions.put("book", version, {}, orjson.dumps(book.data()))
    moves = publisher(town)
    await moves.begin_trial("r1", kind, "m2" if kind == "model" else version, "canary", 0.5)
    await moves.publish_churn("churn")
    await town.observe("anon:1", scroll(0.9))
    found = {**await arms(town), **await arms(town, 4)}
    await moves.end_trial("r1", promoted=False)
    await moves.publish_churn("")
    assert {d["model"]["arm"] for d in found.values()} == {CHAMPION, CHALLENGER}
    for decision in found.values():
        asked = {"decision_id": decision["decisionId"], "replay": True}
        record = (await town.ask_partition(int(decision["decisionId"].split("_")[1]), "decision", asked))["record"]
        assert record["replay"] == {"identical": True, "differs": []}
        assert record["explain"]["trial"]["arm"] == decision["model"]["arm"]
        assert record["risk"]["churn"] == 0.9


async def test_an_arm_stays_with_the_visitor_through_a_link(town: Town) -> None:
    moves = publisher(town)
    await moves.begin_trial("r1", "model", "m2", "canary", 0.5)
    before = {f"anon:{i}": (await town.decide(f"anon:{i}"))["decision"]["model"]["arm"] for i in range(12)}
    for i, who in enumerate(before):
        await town.link(who, f"user:{i}")
        town.clock.now_ms += 1000
        assert (await town.decide(f"user:{i}"))["decision"]["model"]["arm"] == before[who]


async def test_a_shard_starts_on_the_prior_where_the_published_model_is_of_no_use(town: Town) -> None:
    MODELS["m1"] = Model("m1", 0.1, "another layout")
    try:
        await town.kill(0)
        await town.start_shard(0)
        worlds = town.shards[0].worlds
        assert worlds.current is not None
        assert worlds.current.model_version == "prior-1"
    finally:
        MODELS["m1"] = Model("m1", 0.1)


async def test_earlier_versions_stay_loaded_and_those_in_force_are_never_let_go(town: Town) -> None:
    for i in range(KEPT + 3):
        MODELS[f"x{i}"] = Model(f"x{i}", 0.2)
        await town.stores.versions.put("model", f"x{i}", {}, b"")
    moves = publisher(town)
    await moves.begin_trial("r1", "model", "m2", "canary", 0.5)
    for i in range(KEPT + 3):
        await town.shards[0].worlds._model(f"x{i}")
    held = town.shards[0].worlds._models
    assert {"m1", "m2", "prior-1"} <= held.keys()
    assert len(held) <= KEPT + 3
    for i in range(KEPT + 3):
        del MODELS[f"x{i}"]
