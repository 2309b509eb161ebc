"""Who owns a partition: one shard at a time, also when lives of a shard overlap and when a world cannot be loaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from actors.memory import Fault, MemoryJournal, memory_stores
from actors.worlds import Worlds
from engine.ids import partition_of
from engine.predictor import Predictor
from engine.prior import PriorModel
from engine.schema import schema_hash
from tests.actors.town import BOOK, Town, scroll, until
from tests.engine.builders import signal


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = await Town().start()
    yield town
    await town.stop()


async def give_all_to(town: Town, shard: int) -> None:
    state = await town.stores.table.read()
    assert await town.stores.table.compare_and_set(state.version, replace(state, owners=(shard,) * 8))


async def test_an_earlier_life_of_a_shard_leaves_instead_of_claiming_back(town: Town) -> None:
    await town.observe("anon:a", signal("page"))
    home = partition_of("anon:a", 8)
    earlier = town.shards[home % 2]
    assert await town.stores.table.announce(home % 2, "there:1", earlier.incarnation)
    later = await town.start_shard(home % 2)
    assert await town.stores.table.announce(home % 2, "there:2", later.incarnation)
    told = await earlier.ask("observe", {"track": "anon:a", "signals": [scroll(0.9).to_list()]}, home)
    # It was fenced, or had read of the later life before it was asked.
    assert told.keys() & {"unavailable", "not_mine"}
    await until(lambda: not earlier.partitions)
    assert later.partitions[home].ready
    assert (await town.observe("anon:a", scroll(0.9)))["results"] == ["accepted"]
    assert later.counts["resets"] == 0
    await earlier.stop()


async def test_partitions_move_while_a_published_model_cannot_be_loaded(town: Town) -> None:
    await town.observe("anon:a", signal("page"))
    pointer = await town.stores.versions.world()
    assert await town.stores.versions.publish(pointer["rev"], {**pointer, "model": "of nobody"})
    await give_all_to(town, 0)
    await until(lambda: len(town.shards[0].partitions) == 8 and not town.shards[1].partitions)
    assert (await town.profile("anon:a"))["n_signals"] == 1


async def test_a_partition_that_left_and_came_back_during_its_recovery_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal = MemoryJournal()
    town = await Town(memory_stores(journal), n_shards=1, n_partitions=1).start()
    await town.observe("anon:a", signal("page"))
    shard, covered, reached, gate = town.shards[0], town.stores.snapshots.covered, asyncio.Event(), asyncio.Event()
    held: list[int] = []

    async def hold_the_first(partition: int) -> tuple[int, int] | None:
        if not held:
            held.append(partition)
            reached.set()
            await gate.wait()
        return await covered(partition)

    monkeypatch.setattr(town.stores.snapshots, "covered", hold_the_first)
    journal.fail_next(Fault.REFUSED)
    await town.observe("anon:a", scroll(0.1))
    await reached.wait()
    first = shard.partitions[0]
    for owner in (-1, 0):
        state = await town.stores.table.read()
        assert await town.stores.table.compare_and_set(state.version, replace(state, owners=(owner,)))
        await until(lambda owner=owner: (0 in shard.partitions) == (owner == 0))  # type: ignore[misc]
    assert shard.partitions[0] is not first
    await until(lambda: shard.partitions[0].ready)
    journal.fail_next(Fault.REFUSED)
    await town.observe("anon:a", scroll(0.2))
    gate.set()
    await until(lambda: shard.partitions[0].ready)
    assert (await town.observe("anon:a", scroll(0.3)))["results"] == ["accepted"]
    assert (await town.profile("anon:a"))["n_signals"] == 2
    await town.stop()


async def test_a_slow_load_does_not_bring_back_an_earlier_world(town: Town) -> None:
    reached, gate = asyncio.Event(), asyncio.Event()

    async def load(version: str) -> Predictor:
        if version == "slow":
            reached.set()
            await gate.wait()
        return PriorModel()

    worlds = Worlds(town.stores.versions, load)
    assert await worlds.refresh()
    pointer = await town.stores.versions.world()
    assert await town.stores.versions.publish(pointer["rev"], {**pointer, "model": "slow"})
    slow = asyncio.ensure_future(worlds.refresh())
    await reached.wait()
    version = await town.publish({**_book(), "currency": "USD"})
    assert await worlds.refresh()
    gate.set()
    await slow
    assert worlds.current is not None
    assert worlds.current.book.version == version


def _book() -> dict[str, Any]:
    copied: dict[str, Any] = orjson.loads(orjson.dumps(BOOK))
    return copied


class Flaky:
    """A model that can be broken."""

    version, kind, schema_hash = "flaky", "prior", schema_hash()

    def __init__(self) -> None:
        self.broken = False

    def predict_one(self, row: NDArray[np.float64]) -> float:
        if self.broken:
            raise RuntimeError("broken")
        return 0.25

    def predict_many(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(len(rows), self.predict_one(rows[0]))


@pytest.mark.parametrize("precomputed", [True, False])
async def test_a_decision_from_a_lower_rung_is_replayed_from_that_rung(precomputed: bool) -> None:
    model = Flaky()

    async def load(version: str) -> Predictor:
        return model

    town = Town(n_shards=1, n_partitions=1)
    town.load_model = load
    await town.start()
    await town.publish(_book(), model="flaky")
    await town.ask_partition(0, "refresh", {})
    if precomputed:
        await town.observe("anon:a", signal("page"))
    model.broken = True
    decision = (await town.decide("anon:a"))["decision"]
    assert decision["degraded"]["rung"] == ("precomputed" if precomputed else "rules")
    model.broken = False
    asked = {"decision_id": decision["decisionId"], "replay": True}
    assert (await town.ask_partition(0, "decision", asked))["record"]["replay"] == {"identical": True, "differs": []}
    await town.stop()
