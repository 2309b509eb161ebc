"""Before a campaign book is published: what needs none works, what needs one says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.actors.town import BOOK, Town, scroll


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    """Visitors with a past whose shards find no book as they start."""
    town = await Town(n_partitions=8).start()
    await town.observe("anon:a", scroll(0.5))
    await town.observe("anon:b", scroll(0.5))
    await town.decide("anon:a")
    plain = town.stores.versions.world

    async def none() -> dict[str, object]:
        return {"rev": 0, "book": "", "model": ""}

    for index in range(2):
        await town.kill(index)
    town.stores.versions.world = none  # type: ignore[method-assign]
    for index in range(2):
        await town.start_shard(index)
    yield town
    town.stores.versions.world = plain  # type: ignore[method-assign]
    await town.stop()


async def test_links_are_made_and_undone(town: Town) -> None:
    assert (await town.link("anon:a", "user:u"))["linked"]
    assert (await town.profile("user:u"))["n_signals"] == 1
    assert (await town.ask("user:u", "unlink", {"track": "user:u", "anon": "anon:a"}))["unlinked"]


async def test_profiles_are_shown_exported_and_erased(town: Town) -> None:
    assert (await town.profile("anon:a"))["n_signals"] == 1
    export = (await town.ask("anon:a", "export", {"track": "anon:a"}))["export"]
    assert {"s", "d"} <= {record[0] for record in export["records"]}
    receipt = (await town.ask("anon:a", "erase", {"track": "anon:a"}))["receipt"]
    async with asyncio.timeout(10):
        while receipt["status"] != "done":
            receipt = (await town.ask("anon:a", "erase", {"track": "anon:a"}))["receipt"]
    assert (await town.ask("anon:a", "profile", {"track": "anon:a"}))["error"]["status"] == 404


async def test_a_decision_is_shown_and_rewarded(town: Town) -> None:
    given = (await town.profile("anon:a"))["decisions"][-1]
    partition = int(given.split("_")[1])
    reward = {"decision_id": given, "value": 1.0, "type": "conversion"}
    assert (await town.ask_partition(partition, "reward", reward))["status"] == "recorded"
    record = (await town.ask_partition(partition, "decision", {"decision_id": given}))["record"]
    assert record["rewards"] == {"conversion": 1.0}


@pytest.mark.parametrize("op", ["observe", "decide", "score", "dry_run"])
async def test_what_a_book_has_a_say_in_waits_for_one(town: Town, op: str) -> None:
    asked = {"track": "anon:a", "signals": [], "placement": "product_page", "book": BOOK, "limit": 1}
    assert (await town.ask("anon:a", op, asked))["unavailable"]["code"] == "no_book"
