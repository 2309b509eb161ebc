"""Shards over an archive: what has left the store is still shown, replayed, rewarded, exported, and erased."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from actors.archive import MemoryArchive
from actors.archive_settings import ArchiveSettings
from actors.history import History
from actors.segments import Segments
from engine.errors import Unavailable
from engine.ids import DecisionId, partition_of
from tests.actors.town import Town, scroll
from tests.engine.builders import signal

DAY_MS = 24 * 3600 * 1000
SMALL = ArchiveSettings(tail_bytes=4_000, hard_bytes=40_000, segment_bytes=2_000, every_ms=1)
HOME = partition_of("anon:a", 2)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = Town(n_shards=1, n_partitions=2)
    town.archive, town.archiving = MemoryArchive(), SMALL
    await restarted(town)
    yield town
    await town.stop()


async def restarted(town: Town) -> None:
    if town.shards:
        await town.kill(0)
    town.settings = replace(town.settings, snapshot_every_ms=0)
    await town.start()


def held_archive(town: Town) -> MemoryArchive:
    assert isinstance(town.archive, MemoryArchive)
    return town.archive


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.001)


async def archived(town: Town, decision_id: str) -> None:
    """Let visitors come until the decision is no longer in the store."""
    place = DecisionId.parse(decision_id)

    async def gone() -> bool:
        await crowd(town, 5)
        return await town.stores.journal.get(place.partition, (place.epoch, place.seq)) is None

    await until(gone)


async def crowd(town: Town, n: int) -> None:
    others = [name for i in range(1000) if partition_of(name := f"anon:other{i}", 2) == HOME][:n]
    for name in others:
        town.clock.now_ms += 1
        await town.observe(name, signal("page", url="https://shop.example/" + "x" * 100, t_ms=town.clock.now_ms))


async def shown(town: Town, decision_id: str, **more: Any) -> dict[str, Any]:
    return await town.ask_partition(HOME, "decision", {"decision_id": decision_id, **more})


async def test_an_archived_decision_is_explained_replayed_and_rewarded(town: Town) -> None:
    await town.observe("anon:a", scroll(0.9))
    given = (await town.decide("anon:a"))["decision"]
    await archived(town, given["decisionId"])
    record = (await shown(town, given["decisionId"], replay=True))["record"]
    assert record["identical"] is True
    assert record["items"] == given["items"]
    assert record["explain"] is not None
    reward = {"decision_id": given["decisionId"], "value": 1.0, "type": "conversion"}
    assert (await town.ask_partition(HOME, "reward", reward))["status"] == "recorded"
    assert (await shown(town, given["decisionId"]))["record"]["rewards"] == {"conversion": 1.0}


async def test_an_archived_decision_survives_a_restart_and_so_does_its_profile(town: Town) -> None:
    await town.observe("anon:a", scroll(0.9), signal("page"))
    given = (await town.decide("anon:a"))["decision"]
    await archived(town, given["decisionId"])
    before = await town.profile("anon:a")
    await restarted(town)
    assert (await shown(town, given["decisionId"]))["record"]["items"] == given["items"]
    assert await town.profile("anon:a") == before


async def test_a_decision_beyond_retention_is_410_and_one_that_never_was_is_404(town: Town) -> None:
    await town.observe("anon:a", scroll(0.9))
    given = (await town.decide("anon:a"))["decision"]["decisionId"]
    place = DecisionId.parse(given)
    await archived(town, given)
    never = [DecisionId(HOME, place.epoch, place.seq, 99), DecisionId(HOME, place.epoch, 10**6, 0),
             DecisionId(HOME, place.epoch + 9, 1, 0)]  # fmt: skip
    for decision_id in never:
        assert (await shown(town, str(decision_id)))["error"]["status"] == 404
    town.clock.now_ms += SMALL.decisions_ms
    assert (await shown(town, given))["error"]["status"] == 410

    async def expired() -> bool:
        await crowd(town, 1)
        town.clock.now_ms += DAY_MS
        return await Segments(held_archive(town)).get(HOME, (place.epoch, place.seq)) is None

    await until(expired)
    reply = await shown(town, given)
    assert (reply["error"]["status"], reply["error"]["code"]) == (410, "expired")
    for decision_id in never[1:]:
        assert (await shown(town, str(decision_id)))["error"]["status"] == 404


async def test_an_export_has_what_is_archived_and_what_is_not_in_order(town: Town) -> None:
    await town.observe("anon:a", scroll(0.9))
    given = (await town.decide("anon:a"))["decision"]["decisionId"]
    await archived(town, given)
    await town.observe("anon:a", signal("click", t_ms=town.clock.now_ms))
    export = (await town.ask("anon:a", "export", {"track": "anon:a"}))["export"]
    kinds = [(record[0], record[4][0][0]) if record[0] == "s" else (record[0], "") for record in export["records"]]
    assert kinds[0] == ("s", "scroll")
    assert ("d", "") in kinds
    assert kinds[-1] == ("s", "click")
    assert {record[1] for record in export["records"]} == {"anon:a"}


async def erased(town: Town, track: str) -> dict[str, Any]:
    receipt: dict[str, Any] = {}

    async def done() -> bool:
        receipt.update((await town.ask(track, "erase", {"track": track})).get("receipt", {}))
        return receipt.get("status") == "done"

    await until(done)
    return receipt


async def everything(town: Town) -> list[Any]:
    history = History(town.stores.journal, Segments(held_archive(town)), foreign=True)
    return [r for p in range(2) async for _, payload in history.entries(p) for r in orjson.loads(payload)[1:]]


async def test_an_erasure_reaches_the_archive_and_its_receipt_counts_it(town: Town) -> None:
    await town.observe("anon:a", scroll(0.9))
    given = (await town.decide("anon:a"))["decision"]["decisionId"]
    await archived(town, given)
    before = await everything(town)
    n_own = sum(1 for r in before if r is not None and r[1] == "anon:a")
    assert n_own >= 2
    receipt = await erased(town, "anon:a")
    assert receipt["n_records"] == n_own + 1  # and the record of the erasure itself
    after = await everything(town)
    # What stays says that somebody was erased, and not who.
    left = [r for r in after if r is not None and r[0] != "f"]
    assert left == [r for r in before if r is not None and r[1] != "anon:a"]
    assert not any(b"anon:a" in orjson.dumps(r) for r in after)
    reply = await shown(town, given)
    assert reply["error"]["status"] == 410
    assert (await town.ask("anon:a", "profile", {"track": "anon:a"}))["error"]["status"] == 404


async def test_an_erasure_waits_for_an_archive_that_fails_and_a_crash_does_not_forget_it(town: Town) -> None:
    await town.observe("anon:a", scroll(0.9))
    given = (await town.decide("anon:a"))["decision"]["decisionId"]
    await archived(town, given)

    def down(verb: str, name: str) -> None:
        raise Unavailable("archive_unavailable", f"{verb} of {name} failed")

    held_archive(town).fault = down
    assert (await town.ask("anon:a", "erase", {"track": "anon:a"}))["receipt"]["status"] == "pending"
    await crowd(town, 3)
    assert (await town.ask("anon:a", "erase", {"track": "anon:a"}))["receipt"]["status"] == "pending"
    await restarted(town)
    held_archive(town).fault = lambda _verb, _name: None
    assert (await erased(town, "anon:a"))["n_tracks"] == 1
    assert not any(r is not None and r[1] == "anon:a" for r in await everything(town))


async def test_an_erasure_goes_on_after_an_error_that_nobody_expected(town: Town) -> None:
    await town.observe("anon:a", scroll(0.9))
    await archived(town, (await town.decide("anon:a"))["decision"]["decisionId"])
    failed: list[str] = []

    def broken(verb: str, name: str) -> None:
        if verb == "read" and not failed:
            failed.append(name)
            raise LookupError(name)

    held_archive(town).fault = broken
    assert (await erased(town, "anon:a"))["n_tracks"] == 1
    assert failed
    assert not any(r is not None and r[1] == "anon:a" for r in await everything(town))


async def test_a_full_archive_stops_acknowledging_with_a_reason_loses_nothing_and_recovers(town: Town) -> None:
    def full(verb: str, _name: str) -> None:
        if verb == "put":
            raise Unavailable("archive_full", "no space left on device")

    held_archive(town).fault = full
    accepted = 0
    reply: dict[str, Any] = {}
    async with asyncio.timeout(20):
        while "unavailable" not in reply:
            town.clock.now_ms += 1
            reply = await town.observe("anon:a", signal("page", t_ms=town.clock.now_ms, url="https://x/" + "y" * 500))
            accepted += reply.get("results") == ["accepted"]
            await asyncio.sleep(0.001)
    assert reply["unavailable"]["code"] == "archive_full"
    assert "no space left" in reply["unavailable"]["message"]
    assert (await town.decide("anon:a"))["unavailable"]["code"] == "archive_full"
    assert (await town.profile("anon:a"))["n_signals"] == accepted
    _, size = await town.stores.journal.size(HOME)
    assert size < 3 * SMALL.hard_bytes
    held_archive(town).fault = lambda _verb, _name: None

    async def well() -> bool:
        return "decision" in await town.decide("anon:a")

    await until(well)
    await restarted(town)
    assert (await town.profile("anon:a"))["n_signals"] == accepted
    assert sum(len(r[4]) for r in await everything(town) if r is not None and r[0] == "s") == accepted
