"""Snapshots, coverage, trimming and expiry: what is acknowledged outlives every moment at which they run."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from actors.housekeeping import AGAIN_AFTER_MS, LOOK_EVERY_MS
from actors.memory import MemoryJournal, memory_stores
from actors.partition import Partition
from actors.shard import MAX_BATCH
from actors.snapshot_form import pack, restored
from actors.stores import Entry
from engine.errors import Unavailable
from engine.ids import partition_of
from engine.track import Track
from tests.actors.town import Town, scroll, until
from tests.engine.builders import signal

DAY_MS = 24 * 3600 * 1000
POISON = ["scroll", 1_790_000_000_000, 77, {"px": "not a number"}]
"""A row that passes as a signal and breaks the fold, so that its batch cannot be evaluated."""


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = await Town(n_shards=1, n_partitions=2).start()
    yield town
    await town.stop()


async def restarted(town: Town, **settings: Any) -> Town:
    if town.shards:
        await town.kill(0)
    town.settings = replace(town.settings, **settings)
    await town.start_shard(0)
    return town


async def covered(town: Town, partition: int) -> tuple[int, int]:
    return await town.stores.snapshots.covered(partition) or (0, 0)


async def test_a_partition_dropped_between_batches_loses_no_snapshot(town: Town) -> None:
    await restarted(town, snapshot_every_ms=0)
    shard, home = town.shards[0], partition_of("anon:a", 2)
    calls: list[tuple[str, dict[str, Any]]] = [("score", {"track": "anon:a"})] * MAX_BATCH
    calls[0] = ("observe", {"track": "anon:a", "signals": [signal("page").to_list()]})
    calls.append(("observe", {"track": "anon:a", "signals": [POISON]}))
    replies = await asyncio.gather(*(shard.ask(op, payload, home) for op, payload in calls))
    assert replies[0]["results"] == ["accepted"]
    assert replies[-1]["unavailable"]["code"] == "internal"
    await until(lambda: shard.partitions[home].ready)
    assert (await town.profile("anon:a"))["n_signals"] == 1


async def test_coverage_stays_where_a_snapshot_could_not_be_made(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await town.observe("anon:a", signal("page"))
    home = partition_of("anon:a", 2)
    last = await town.stores.journal.last(home)
    assert last is not None
    load, broken = town.stores.snapshots.load, ["a reply nobody understands"]

    async def breaking(keys: Sequence[tuple[int, str]]) -> list[bytes | None]:
        if broken:
            raise ValueError(broken.pop())
        return await load(keys)

    monkeypatch.setattr(town.stores.snapshots, "load", breaking)
    await restarted(town, snapshot_every_ms=0)
    async with asyncio.timeout(10):
        while await covered(town, home) < last:
            await town.ask_partition(home, "stats", {})
    assert not broken
    await restarted(town)
    assert (await town.profile("anon:a"))["n_signals"] == 1


async def test_snapshots_are_taken_under_a_load_that_never_pauses() -> None:
    journal = MemoryJournal()
    town = await restarted(await Town(memory_stores(journal), n_shards=1, n_partitions=1).start(), snapshot_every_ms=0)
    shard, left = town.shards[0], list(range(60))
    asked: list[asyncio.Task[Any]] = []

    async def more(_entries: Sequence[Entry]) -> None:
        if left:
            rows = [scroll(left.pop() / 100).to_list()]
            asked.append(asyncio.ensure_future(shard.ask("observe", {"track": "anon:a", "signals": rows}, 0)))
        for _ in range(4):
            await asyncio.sleep(0)

    journal.gate = more
    await town.observe("anon:a", signal("page"))
    await until(lambda: not left)
    assert (await covered(town, 0))[1] > 10
    await asyncio.gather(*asked)
    await town.stop()


async def test_an_error_between_batches_does_not_end_the_shard(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Partition, idle_before_ms: int) -> int:
        raise RuntimeError("broken")

    monkeypatch.setattr(Partition, "passivate", broken)
    await restarted(town, snapshot_every_ms=0)
    async with asyncio.timeout(5):
        for i in range(3):
            assert (await town.observe("anon:a", scroll(i / 10)))["results"] == ["accepted"]


async def test_what_comes_after_expiry_is_not_joined_with_what_expired(town: Town) -> None:
    await town.observe("anon:a", signal("page"))
    await town.stop()
    await restarted(town)
    town.clock.now_ms += 401 * DAY_MS
    assert (await town.observe("anon:a", scroll(0.5, town.clock.now_ms)))["results"] == ["accepted"]
    before = await town.profile("anon:a")
    assert before["n_signals"] == 1
    await restarted(town)
    assert await town.profile("anon:a") == before


async def test_a_visitor_who_returns_after_their_profile_expired_begins_anew(town: Town) -> None:
    anon = next(a for i in range(9) if partition_of(a := f"anon:{i}", 2) != partition_of("user:u", 2))
    await town.observe(anon, signal("page"))
    await town.link(anon, "user:u")
    await town.stop()
    await restarted(town)
    town.clock.now_ms += 401 * DAY_MS
    assert (await town.observe(anon, scroll(0.5, town.clock.now_ms)))["results"] == ["accepted"]
    before = await town.profile(anon)
    assert before["n_signals"] == 1
    await restarted(town)
    assert await town.profile(anon) == before


async def test_expired_snapshots_go_without_being_touched(town: Town) -> None:
    home = partition_of("user:u", 2)
    anon = next(a for i in range(9) if partition_of(a := f"anon:{i}", 2) != home)
    for i in range(20):
        await town.observe(f"anon:x{i}", signal("page"))
    await town.observe(anon, signal("page"))
    await town.link(anon, "user:u")
    await town.observe("user:u", signal("click"))
    await town.stop()
    await restarted(town)
    town.clock.now_ms += 300 * DAY_MS
    await town.observe("anon:x7", scroll(0.5, town.clock.now_ms))
    town.clock.now_ms += 101 * DAY_MS
    await restarted(town, snapshot_every_ms=0, sweep_every_ms=0)
    held = {anon}
    async with asyncio.timeout(10):
        while held != {"anon:x7"}:
            await town.ask_partition(home, "stats", {})
            held = {track for p in (0, 1) async for track in town.stores.snapshots.tracks(p)}
    assert (await town.profile("anon:x7"))["n_signals"] == 2


async def test_snapshots_go_on_when_the_clock_is_put_back(town: Town) -> None:
    await restarted(town, snapshot_every_ms=5_000)
    shard, home = town.shards[0], partition_of("anon:a", 2)
    town.clock.now_ms += 1
    await until(lambda: not shard.partitions[home].dirty)
    town.clock.now_ms -= 400 * DAY_MS
    await town.observe("anon:a", signal("page"))
    town.clock.now_ms += 5_000
    shard.wake()
    await until(lambda: not shard.partitions[home].dirty)
    assert await covered(town, home) == shard.partitions[home].position


async def test_a_partition_is_saved_once_its_tail_has_grown(town: Town) -> None:
    await restarted(town, snapshot_every_bytes=4_000)
    shard, home = town.shards[0], partition_of("anon:a", 2)
    n = 0
    while shard.partitions[home].n_written < 4_000:
        assert await covered(town, home) == (0, 0)
        n += 1
        await town.observe("anon:a", scroll(n / 1000))
    town.clock.now_ms += LOOK_EVERY_MS
    shard.wake()
    await until(lambda: not shard.partitions[home].dirty)
    assert await covered(town, home) == shard.partitions[home].position


async def test_a_round_that_failed_is_begun_again_before_the_next_is_due(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, failures = town.stores.snapshots.save, [Unavailable("store_uncertain", "gone")]

    async def failing(*args: Any, **settings: Any) -> None:
        if failures:
            raise failures.pop()
        await save(*args, **settings)

    monkeypatch.setattr(town.stores.snapshots, "save", failing)
    await restarted(town, snapshot_every_bytes=1)
    shard, home = town.shards[0], partition_of("anon:a", 2)
    await town.observe("anon:a", signal("page"))
    town.clock.now_ms += LOOK_EVERY_MS
    shard.wake()
    await until(lambda: not failures)
    town.clock.now_ms += AGAIN_AFTER_MS
    shard.wake()
    await until(lambda: not shard.partitions[home].dirty)


def test_snapshots_of_earlier_versions_are_read() -> None:
    state = [3, 4, Track.fresh("anon:a").snapshot()]
    for stored in (zlib.compress(orjson.dumps(state), 1), pack(state)):
        track, at = restored(stored)
        assert (track.snapshot(), at) == (state[2], (3, 4))
