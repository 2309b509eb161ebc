"""A damaged snapshot costs its own profile some moments and nobody else anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from actors.archive import MemoryArchive
from actors.archive_settings import ArchiveSettings
from actors.history import History
from actors.segments import Segments
from engine.ids import partition_of
from tests.actors.town import Town, scroll
from tests.engine.builders import T0, signal

HOME = partition_of("anon:a", 2)
NEIGHBOUR = next(name for i in range(100) if partition_of(name := f"anon:n{i}", 2) == HOME)


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def lived(**settings: Any) -> Town:
    """A town whose visitors have a past, all of it in snapshots, and which has just been started again."""
    town = Town(n_shards=1, n_partitions=2)
    town.settings = replace(town.settings, snapshot_every_ms=0, **settings)
    await town.start()
    for track in ("anon:a", NEIGHBOUR):
        await town.observe(track, scroll(0.9), signal("page"), signal("click"))
        await town.decide(track)
    return town


async def saved_and_restarted(town: Town) -> None:
    async def saved() -> bool:
        town.shards[0].wake()
        return not any(p.dirty for p in town.shards[0].partitions.values())

    await until(saved)
    await town.kill(0)
    await town.start_shard(0)


async def damage(town: Town, track: str, form: bytes) -> None:
    home = partition_of(track, 2)
    held = await town.stores.snapshots.load([(home, track)])
    assert held[0] is not None
    covered = await town.stores.snapshots.covered(home) or (0, 0)
    await town.stores.snapshots.save(home, {track: form}, [], covered, epoch=10**6)


async def whole(town: Town, track: str) -> dict[str, Any]:
    shown: dict[str, Any] = {}

    async def answered() -> bool:
        shown.update(await town.ask(track, "profile", {"track": track}))
        return "profile" in shown

    await until(answered)
    profile: dict[str, Any] = shown["profile"]
    return profile


@pytest.mark.parametrize("form", [b"", b"rubbish", b"x\x9c\x8b\xae\x05\x00\x01\x15\x00\xb9"])
async def test_the_profile_is_built_anew_and_neighbours_notice_nothing(form: bytes) -> None:
    town = await lived()
    before = await town.profile("anon:a")
    await saved_and_restarted(town)
    await damage(town, "anon:a", form)
    both = await asyncio.gather(
        town.observe("anon:a", signal("hover")), town.observe(NEIGHBOUR, signal("hover", t_ms=T0 + 1))
    )
    assert both[0]["unavailable"]["code"] == "snapshot_damaged"
    assert both[1] == {"results": ["accepted"]}
    assert await whole(town, "anon:a") == before
    assert (await town.observe("anon:a", signal("hover")))["results"] == ["accepted"]
    told = town.shards[0].told()
    assert (told["damaged_snapshots"], told["resets"]) == (1, 0)
    await saved_and_restarted(town)
    assert (await town.profile("anon:a"))["n_signals"] == before["n_signals"] + 1
    assert town.shards[0].told()["damaged_snapshots"] == 0
    await town.stop()


async def test_what_is_in_the_archive_is_part_of_it() -> None:
    town = Town(n_shards=1, n_partitions=2)
    town.archive = archive = MemoryArchive()
    town.archiving = ArchiveSettings(tail_bytes=2_000, hard_bytes=80_000, segment_bytes=1_000, every_ms=1)
    town.settings = replace(town.settings, snapshot_every_ms=0)
    await town.start()
    await town.observe("anon:a", scroll(0.9), signal("page"))
    n = 0

    async def moved() -> bool:
        nonlocal n
        n += 1
        await town.observe(NEIGHBOUR, signal("page", t_ms=T0 + n, url="https://shop.example/" + "x" * 200))
        town.shards[0].wake()
        return await Segments(archive).last(HOME) is not None

    await until(moved)
    before = await town.profile("anon:a")
    await saved_and_restarted(town)
    assert (await History(town.stores.journal, Segments(archive)).records_of(HOME, {"anon:a"})) != []
    await damage(town, "anon:a", b"rubbish")
    assert await whole(town, "anon:a") == before
    await town.stop()


async def test_a_profile_of_several_tracks_is_whole_again_too() -> None:
    town = await lived()
    assert (await town.link("anon:a", "user:u"))["linked"]
    before = await town.profile("user:u")
    await saved_and_restarted(town)
    for track, home in (("anon:a", partition_of("user:u", 2)), ("user:u", partition_of("user:u", 2))):
        covered = await town.stores.snapshots.covered(home) or (0, 0)
        await town.stores.snapshots.save(home, {track: b"rubbish"}, [], covered, epoch=10**6)
    assert await whole(town, "user:u") == before
    await town.stop()


async def test_a_profile_that_nobody_asks_for_is_found_by_the_sweep_which_goes_on() -> None:
    town = await lived(sweep_every_ms=0, sweep_pass_ms=0)
    await saved_and_restarted(town)
    await damage(town, "anon:a", b"rubbish")

    async def mended() -> bool:
        (held,) = await town.stores.snapshots.load([(HOME, "anon:a")])
        return held != b"rubbish"

    await until(mended)
    assert town.shards[0].told()["damaged_snapshots"] == 1
    await town.stop()


async def test_when_the_journal_cannot_be_read_either_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.mending.PAUSE_S", 0.0)
    town = await lived()
    before = await town.profile("anon:a")
    await saved_and_restarted(town)
    await damage(town, "anon:a", b"rubbish")
    history, failures = town.shards[0].history, 0
    plain = history.placed_records_of

    async def failing(partition: int, tracks: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures < 3:
            raise OSError("not now")
        return await plain(partition, tracks)

    monkeypatch.setattr(history, "placed_records_of", failing)
    assert await whole(town, "anon:a") == before
    assert failures == 3
    await town.stop()
