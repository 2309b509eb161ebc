"""A decision recorded under another feature schema is shown with the names it was recorded with."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from engine.ids import DecisionId, partition_of
from engine.schema import PROFILE_FEATURES, schema_hash
from tests.actors.town import BOOK, Town, scroll

OLD_NAMES = ("recency", "depth", "a_feature_of_old")


@pytest.fixture
async def old_decision() -> Any:
    """A town and a decision whose record is of a schema with three features."""
    town = await Town(n_shards=1, n_partitions=2).start()
    await town.observe("anon:a", scroll(0.9))
    given = (await town.decide("anon:a"))["decision"]["decisionId"]
    at = DecisionId.parse(given)
    payload = await town.stores.journal.get(at.partition, (at.epoch, at.seq))
    assert payload is not None
    entry = orjson.loads(payload)
    record = entry[1 + at.index]
    record[5][3], record[7][1] = "0123456789abcdef", [0.5, 0.25, 7.0]
    await town.stores.journal.redact(at.partition, (at.epoch, at.seq), orjson.dumps(entry))
    yield town, given
    await town.stop()


async def shown(town: Town, decision_id: str) -> dict[str, Any]:
    payload = {"decision_id": decision_id, "replay": True}
    found: dict[str, Any] = (await town.ask_partition(partition_of("anon:a", 2), "decision", payload))["record"]
    return found


async def test_its_features_have_the_names_of_their_time(old_decision: tuple[Town, str]) -> None:
    town, given = old_decision
    await town.stores.versions.put("schema", "0123456789abcdef", {}, orjson.dumps(OLD_NAMES))
    record = await shown(town, given)
    assert record["inputs"]["features"] == dict(zip(OLD_NAMES, [0.5, 0.25, 7.0], strict=True))
    assert (record["identical"], record["replay"]["differs"], record["explain"]) == (False, ["schema"], None)
    assert record["items"][0]["id"] == "free"


async def test_where_nobody_knows_the_names_the_places_are_told(old_decision: tuple[Town, str]) -> None:
    record = await shown(*old_decision)
    assert record["inputs"]["features"] == {"feature_0": 0.5, "feature_1": 0.25, "feature_2": 7.0}


async def test_an_engine_leaves_the_names_of_its_own_features(old_decision: tuple[Town, str]) -> None:
    held = await old_decision[0].stores.versions.get("schema", schema_hash())
    assert held is not None
    assert tuple(orjson.loads(held[1])) == PROFILE_FEATURES


async def test_a_dry_run_counts_it_as_unreadable(old_decision: tuple[Town, str]) -> None:
    reply = await old_decision[0].ask_partition(0, "dry_run", {"book": BOOK, "limit": 10})
    assert reply["dry_run"]["unreadable"] == 1
