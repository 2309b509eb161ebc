"""A dry run over real shards: it names the decisions that another book would change, and changes nothing itself."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from typing import Any

import orjson
import pytest

from actors import dry_running
from actors.dry_running import dry_run_everywhere
from actors.publishing import Publisher
from engine.book import load_book
from engine.dry_run import DryRun
from engine.errors import InvalidInput, Unavailable
from engine.ids import DecisionId
from engine.posteriors import Posteriors
from engine.record import DECISION
from engine.world import World
from tests.actors.town import BOOK, Town, scroll
from tests.engine.builders import T0


def book(above: float = 0.7, leave_below: float = 0.6, **campaign: Any) -> dict[str, Any]:
    """The town's book with another threshold, or with other parts of its campaign."""
    data = copy.deepcopy(BOOK)
    data["campaigns"]["cart"]["segments"]["deep"]["all"][0] |= {"above": above, "leave_below": leave_below}
    data["campaigns"]["cart"] |= campaign
    return data


async def decided(town: Town, shares: list[float]) -> list[str]:
    """One decision for each visitor, who has scrolled that far."""
    ids = []
    for n, share in enumerate(shares):
        town.clock.now_ms = T0 + 1000 + n
        await town.observe(f"anon:v{n}", scroll(share, T0 + n))
        reply = await town.decide(f"anon:v{n}", context={"os": "android", "device": "mobile"})
        ids.append(reply["decision"]["decisionId"])
    return ids


async def dry(town: Town, data: dict[str, Any], limit: int = 100) -> dict[str, Any]:
    return await dry_run_everywhere(town.stores.table, town, data, limit)


async def entries(town: Town) -> list[Any]:
    journal = town.stores.journal
    return [await journal.read(p, None, 1000) for p in range(town.n_partitions)]


@pytest.fixture
async def town():
    made = await Town().start()
    yield made
    await made.stop()


SHARES = [0.1, 0.55, 0.62, 0.66, 0.69, 0.71, 0.8, 0.95]


async def test_the_book_in_force_changes_nothing(town: Town) -> None:
    await decided(town, SHARES)
    found = await dry(town, BOOK)
    assert (found["decisions"], found["changed"], found["decidedAgain"]) == (8, 0, 0)
    assert (found["kinds"], found["changedIds"], found["examples"], found["missing"]) == ({}, [], [], [])
    assert found["segments"] == {"cart.deep": {"before": 3, "after": 3, "entered": 0, "left": 0}}


async def test_a_lower_threshold_names_exactly_the_decisions_that_it_changes(town: Town) -> None:
    ids = await decided(town, SHARES)
    found = await dry(town, book(above=0.65, leave_below=0.6))
    assert sorted(found["changedIds"]) == sorted(ids[3:5])
    assert found["segments"]["cart.deep"] == {"before": 3, "after": 5, "entered": 2, "left": 0}
    assert found["offers"]["cart.free"] == {"before": 3, "after": 5, "gained": 2, "lost": 0}
    assert found["kinds"] == {"items": 2, "segments": 2, "reason": 2}
    assert found["reasons"] == {"cart.free": {"CONDITION → CHOSEN": 2}}
    example = next(e for e in found["examples"] if e["decisionId"] == ids[3])
    assert (example["before"]["items"], example["after"]["items"]) == ([], ["free"])
    assert {"what": "segment deep", "change": "entered",
            "text": "before: scroll_share is 0.66, needs above 0.7"} in example["why"]  # fmt: skip
    assert [w["what"] for w in example["why"]] == ["segment deep", "offer free"]


async def test_a_higher_threshold_names_those_who_lose_the_offer(town: Town) -> None:
    ids = await decided(town, SHARES)
    found = await dry(town, book(above=0.9))
    # Those at 0.71 and 0.8 are members from their signals and would stay by `leave_below`: nothing changes for them.
    assert found["changedIds"] == []
    found = await dry(town, book(above=0.9, leave_below=0.75))
    # …and are held for 30 s whatever the threshold is.
    assert found["changedIds"] == []
    town.clock.now_ms += 60_000
    late = [(await town.decide(f"anon:v{n}"))["decision"]["decisionId"] for n in (5, 6, 7)]
    found = await dry(town, book(above=0.9, leave_below=0.75))
    assert found["changedIds"] == late[:1]
    assert found["segments"]["cart.deep"]["left"] == 1
    assert set(ids).isdisjoint(found["changedIds"])


async def test_of_each_shard_the_newest_decisions_are_looked_at(town: Town) -> None:
    ids = await decided(town, [0.66] * 20)
    owner = {p: p % town.n_shards for p in range(town.n_partitions)}
    expected = [[d for d in ids if owner[int(d.split("_")[1])] == shard][-3:] for shard in range(town.n_shards)]
    found = await dry(town, book(above=0.65), limit=3)
    assert found["decisions"] == 6
    assert sorted(found["changedIds"]) == sorted(d for some in expected for d in some)


async def test_decisions_of_an_earlier_book_are_compared_with_what_is_in_force_now(town: Town) -> None:
    await decided(town, SHARES)
    lower = book(above=0.65)
    await town.publish(lower)
    for shard in town.shards.values():
        await shard.ask("refresh", {}, next(iter(shard.partitions)))
    found = await dry(town, lower)
    assert (found["decisions"], found["decidedAgain"], found["changed"]) == (8, 8, 0)
    back = await dry(town, BOOK)
    assert back["changed"] == 2
    assert back["segments"]["cart.deep"]["left"] == 2


async def test_placements_campaigns_and_offers_that_go_are_named(town: Town) -> None:
    await decided(town, SHARES)
    gone = await dry(town, book(placements=["elsewhere"]))
    assert gone["kinds"]["placement"] == gone["kinds"]["campaign"] == gone["changed"] == 8
    assert gone["reasons"]["cart.free"]["CHOSEN → ABSENT"] == 3
    renamed = book()
    renamed["campaigns"]["basket"] = renamed["campaigns"].pop("cart")
    found = await dry(town, renamed)
    assert found["kinds"]["campaign"] == 8
    assert found["offers"]["basket.free"]["gained"] == found["offers"]["cart.free"]["lost"] == 3


async def test_weights_that_change_no_answer_change_figures_only(town: Town) -> None:
    await decided(town, SHARES)
    weights = {"default": {"recency": 0.1, "depth": 0.1, "conversion": 0.1}}
    found = await dry(town, book(score={"weights": weights}))
    assert (found["changed"], found["kinds"]) == (0, {"figures": 8})


async def test_a_dry_run_leaves_journal_profiles_and_book_as_they_were(town: Town) -> None:
    await decided(town, SHARES)
    before = await entries(town), await town.profile("anon:v6"), await town.stores.versions.world()
    await dry(town, book(above=0.65, placements=["elsewhere"]))
    assert before == (await entries(town), await town.profile("anon:v6"), await town.stores.versions.world())


async def test_a_book_that_is_not_valid_is_no_dry_run(town: Town) -> None:
    await decided(town, SHARES[:2])
    with pytest.raises(InvalidInput, match="campaigns"):
        await dry(town, {"currency": "EUR"})


async def test_a_shard_that_is_down_is_missing_and_the_others_answer(town: Town) -> None:
    await decided(town, SHARES)
    await town.kill(1)
    found = await dry(town, BOOK)
    assert [(m["shard"], m["code"]) for m in found["missing"]] == [(1, "shard_unavailable")]
    assert found["shards"] == 1
    await town.kill(0)
    with pytest.raises(Unavailable, match="is down"):
        await dry(town, BOOK)


async def test_decisions_are_taken_while_a_dry_run_is_under_way(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await decided(town, SHARES)
    monkeypatch.setattr(dry_running, "SLICE", 1)
    reached, go_on = asyncio.Event(), asyncio.Event()
    journal = town.stores.journal
    read_back = journal.read_back

    async def held(*args: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await read_back(*args)

    monkeypatch.setattr(journal, "read_back", held)
    running = asyncio.create_task(dry(town, BOOK))
    await reached.wait()
    assert (await town.decide("anon:v1"))["status"] == 200
    again = await town.ask_partition(0, "dry_run", {"book": BOOK, "limit": 5})
    assert again["unavailable"]["code"] == "dry_run_busy"
    go_on.set()
    assert (await running)["missing"] == []


async def test_erased_decisions_are_passed_over(town: Town) -> None:
    ids = await decided(town, SHARES)
    partition, epoch, seq = (int(x) for x in ids[3].split("_")[1:4])
    payload = orjson.loads(await town.stores.journal.get(partition, (epoch, seq)) or b"")
    assert any(record[0] == DECISION for record in payload[1:])
    await town.stores.journal.redact(partition, (epoch, seq), orjson.dumps([payload[0], *[None] * (len(payload) - 1)]))
    found = await dry(town, book(above=0.65))
    assert (found["decisions"], found["changedIds"]) == (7, ids[4:5])


async def test_the_publisher_asks_the_shards_and_publishes_nothing(town: Town) -> None:
    ids = await decided(town, SHARES)
    publisher = Publisher(town.stores.versions, town.stores.table, town, lambda: T0)
    version = (await publisher.current_book())[0]
    found = await publisher.dry_run(load_book(book(above=0.65)), 100)
    assert sorted(found["changedIds"]) == sorted(ids[3:5])
    assert found["book"] == version == (await publisher.current_book())[0]
    with pytest.raises(Unavailable):
        await Publisher(town.stores.versions, town.stores.table, None, lambda: T0).dry_run(load_book(BOOK), 100)


async def test_decisions_behind_many_signals_are_found_but_not_at_any_price(town: Town) -> None:
    (decision,) = await decided(town, [0.66])
    for n in range(40):
        await town.observe("anon:v0", scroll(0.1, T0 + 10 + n))
    found = await dry(town, book(above=0.65), limit=20)
    assert found["changedIds"] == [decision]
    assert 40 < found["entries"] < 60
    # Four entries for each decision wanted, and one reading of each partition, are spent; then it is given up.
    given_up = await dry(town, book(above=0.65), limit=1)
    assert (given_up["decisions"], given_up["missing"]) == (0, [])
    assert given_up["entries"] < 50


async def test_a_record_that_cannot_be_read_is_counted_and_costs_no_other(town: Town) -> None:
    ids = await decided(town, SHARES)
    at = DecisionId.parse(ids[3])
    payload = await town.stores.journal.get(at.partition, (at.epoch, at.seq))
    assert payload is not None
    entry = orjson.loads(payload)
    entry[1 + at.index][7] = ["inputs", "of", "another", "engine"]
    await town.stores.journal.redact(at.partition, (at.epoch, at.seq), orjson.dumps(entry))
    summary = await dry(town, book(above=0.6, leave_below=0.5))
    assert (summary["unreadable"], summary["decisions"]) == (1, len(SHARES) - 1)


async def test_what_outcomes_have_taught_counts_for_both_books(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = Posteriors("p1", {})
    worlds: list[World] = []
    for shard in town.shards.values():
        assert shard.worlds.current is not None
        shard.worlds.current = replace(shard.worlds.current, posteriors=taught)

    class Noting(DryRun):
        def __init__(self, current: World, proposed: World) -> None:
            worlds.extend((current, proposed))
            super().__init__(current, proposed)

    monkeypatch.setattr(dry_running, "DryRun", Noting)
    await dry(town, BOOK)
    assert len(worlds) == 4
    assert all(world.posteriors is taught for world in worlds)
