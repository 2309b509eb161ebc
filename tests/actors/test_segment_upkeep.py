"""Segments merged, thinned and redacted: readers miss nothing and see nothing twice, and what was erased stays so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.archive import Archive, Blobs, MemoryArchive
from actors.segment import DamagedSegment, Row
from actors.segment_name import DECISIONS, OTHER, SIGNALS, SegmentName, in_force
from actors.segment_upkeep import FAN_IN, SegmentUpkeep
from actors.segments import Segments
from engine.errors import Fenced, Unavailable
from tests.actors.archives import archive, s3_address
from tests.actors.test_segments import NOW, P, decision_of, limits, of, row, signal_of, tracks_in

__all__ = ["archive", "s3_address"]

DAY_MS = 86_400_000
ROOMY = (10**9, 10**15)


def crash_at(archive: MemoryArchive, verb_to_fail: str, error: Exception) -> None:
    def fault(verb: str, _name: str) -> None:
        if verb == verb_to_fail:
            raise error

    archive.fault = fault


def well(archive: MemoryArchive) -> None:
    archive.fault = lambda _verb, _name: None


async def small_ones(segments: Segments, n: int, each: int = 5, writer: int = 1, start: int = 1) -> list[Row]:
    rows = []
    for i in range(n):
        at = start + i * each
        part = [row(seq, signal_of(f"anon:{seq % 7}", NOW + seq)) for seq in range(at, at + each)]
        await segments.add(P, writer, part, NOW)
        rows += part
    return rows


async def everything(archive: Archive) -> list[Row]:
    return await Segments(archive).read(P, None, 10**6)


async def test_small_neighbours_become_one_that_holds_the_same(archive: Archive) -> None:
    segments = Segments(archive)
    rows = await small_ones(segments, FAN_IN + 2)
    assert await SegmentUpkeep(segments).merge(P, 1, *ROOMY) == FAN_IN + 2
    assert len(await archive.list("p0003/")) == 1
    assert await segments.read(P, None, 1000) == rows == await everything(archive)
    assert await segments.get(P, (1, 23)) == rows[22][1]
    assert tracks_in((await segments.naming(P, ["anon:3"]))[1]).count("anon:3") == 7
    assert await SegmentUpkeep(segments).merge(P, 1, *ROOMY) == 0


async def test_few_or_large_or_long_ago_and_now_are_not_merged() -> None:
    archive = MemoryArchive()
    segments = Segments(archive)
    await small_ones(segments, FAN_IN - 1)
    assert await SegmentUpkeep(segments).merge(P, 1, *ROOMY) == 0
    await small_ones(segments, 2, start=1000)
    size = sum(len(blob) for blob in archive.held.values())
    assert await SegmentUpkeep(segments).merge(P, 1, size // 2, 10**15) == 0
    assert await SegmentUpkeep(segments).merge(P, 1, 10**9, 10) == 0
    assert await SegmentUpkeep(segments).merge(P, 1, *ROOMY) == FAN_IN + 1


async def test_a_byte_is_copied_a_few_times_in_its_life_and_segments_stay_few() -> None:
    archive, copied = MemoryArchive(), 0
    segments = Segments(archive)
    upkeep, added, n = SegmentUpkeep(segments), 0, 400
    for i in range(n):
        before = set(archive.held)
        await small_ones(segments, 1, each=3, start=1 + 3 * i)
        added += sum(len(archive.held[name]) for name in set(archive.held) - before)
        before = set(archive.held)
        while await upkeep.merge(P, 1, *ROOMY):
            pass
        copied += sum(len(archive.held[name]) for name in set(archive.held) - before)
    assert len(archive.held) < 30
    assert copied < 4 * added
    assert len(await everything(archive)) == 3 * n


@pytest.mark.parametrize("verb", ["put", "delete"])
async def test_a_crash_in_a_merge_leaves_every_entry_once(verb: str) -> None:
    archive = MemoryArchive()
    segments = Segments(archive)
    rows = await small_ones(segments, FAN_IN)
    crash_at(archive, verb, RuntimeError("killed"))
    with pytest.raises(RuntimeError):
        await SegmentUpkeep(segments).merge(P, 1, *ROOMY)
    well(archive)
    assert await everything(archive) == rows
    again = Segments(archive)
    await SegmentUpkeep(again).tidy(P)
    while await SegmentUpkeep(again).merge(P, 2, *ROOMY):
        pass
    assert len(archive.held) == 1
    assert await everything(archive) == rows


async def test_a_reader_sees_every_entry_once_while_segments_are_merged(archive: Archive) -> None:
    owner, reader = Segments(archive), Segments(archive)
    rows = await small_ones(owner, FAN_IN)
    seen = await reader.read(P, None, 7)
    await SegmentUpkeep(owner).merge(P, 1, *ROOMY)
    rows += await small_ones(owner, 2, start=1000)
    while found := await reader.read(P, seen[-1][0], 7):
        seen += found
        await reader.last(P, fresh=True)
    assert seen == rows


async def test_a_listing_that_was_under_way_does_not_hide_what_came_meanwhile() -> None:
    archive = MemoryArchive()
    segments = Segments(archive)
    await small_ones(segments, 1)
    gate, listed = asyncio.Event(), asyncio.Event()
    plain = archive.list

    async def slow(prefix: str) -> Blobs:
        found = await plain(prefix)
        listed.set()
        await gate.wait()
        return found

    archive.list = slow  # type: ignore[method-assign]
    looking = asyncio.ensure_future(segments.names(P, fresh=True))
    await listed.wait()
    await small_ones(segments, 1, start=6)
    gate.set()
    assert [name.last for name in await looking] == [(1, 5), (1, 10)]
    assert await segments.last(P) == (1, 10)


# -- erased ------------------------------------------------------------------------------------------------


async def test_a_deletion_that_failed_is_made_good_before_an_erasure_is_done() -> None:
    archive = MemoryArchive()
    segments = Segments(archive)
    await segments.add(P, 1, [row(1, signal_of("anon:a")), row(2, signal_of("anon:b"))], NOW)
    crash_at(archive, "delete", Unavailable("archive_unavailable", "not now"))
    with pytest.raises(Unavailable):
        await SegmentUpkeep(segments).redact(P, 1, ["anon:a"], of("anon:a"))
    assert len(archive.held) == 2
    well(archive)
    await SegmentUpkeep(segments).redact(P, 1, ["anon:a"], of("anon:a"))
    assert len(archive.held) == 1
    assert tracks_in(await everything(archive)) == [None, "anon:b"]


async def test_what_an_earlier_owner_still_rewrites_does_not_bring_an_erased_track_back() -> None:
    archive = MemoryArchive()
    stale = Segments(archive)
    await stale.add(P, 1, [row(1, signal_of("anon:a"), signal_of("anon:b"), signal_of("anon:c"))], NOW)
    gate, reached = asyncio.Event(), asyncio.Event()
    put = archive.put

    async def held(name: str, blob: bytes) -> None:
        reached.set()
        await gate.wait()
        await put(name, blob)

    archive.put = held  # type: ignore[method-assign]
    late = asyncio.ensure_future(SegmentUpkeep(stale).redact(P, 1, ["anon:a"], of("anon:a")))
    await reached.wait()
    archive.put = put  # type: ignore[method-assign]
    owner = Segments(archive)
    await SegmentUpkeep(owner).redact(P, 2, ["anon:b"], of("anon:b"))
    gate.set()
    await late
    assert tracks_in(await everything(archive)) == ["anon:a", None, "anon:c"]
    assert await SegmentUpkeep(owner).redact(P, 2, ["anon:a"], of("anon:a")) == 1
    assert len(archive.held) == 1
    assert tracks_in(await everything(archive)) == [None, None, "anon:c"]
    with pytest.raises(Fenced):
        await SegmentUpkeep(stale).redact(P, 1, ["anon:c"], of("anon:c"))


async def test_a_fenced_writers_wider_segment_is_read_last_and_merged_away(archive: Archive) -> None:
    owner = Segments(archive)
    rows = [row(seq, signal_of("anon:a" if seq == 2 else "anon:b")) for seq in range(1, 5)]
    await owner.add(P, 5, rows[:3], NOW)
    await SegmentUpkeep(owner).redact(P, 5, ["anon:a"], of("anon:a"))
    await Segments(archive).add(P, 4, rows, NOW)
    got = await Segments(archive).get(P, (1, 2))
    assert got is not None
    assert b"anon:a" not in got
    await owner.names(P, fresh=True)
    assert await SegmentUpkeep(owner).merge(P, 5, *ROOMY) == 2
    assert len(await archive.list("p0003/")) == 1
    assert tracks_in(await everything(archive)) == ["anon:b", None, "anon:b", "anon:b"]


async def test_what_cannot_be_read_goes_with_an_erasure_and_is_never_merged_over() -> None:
    archive = MemoryArchive()
    segments = Segments(archive)
    rows = await small_ones(segments, FAN_IN)
    name = (await segments.names(P))[3]
    blob = bytearray(archive.held[str(name)])
    blob[30] ^= 1
    archive.held[str(name)] = bytes(blob)
    assert await SegmentUpkeep(Segments(archive)).merge(P, 1, *ROOMY) == 0
    assert bytes(blob) in archive.held.values()
    with pytest.raises(DamagedSegment):
        await everything(archive)
    await SegmentUpkeep(Segments(archive)).redact(P, 1, ["anon:3"], of("anon:3"))
    left = await everything(archive)
    assert [position for position, _ in left] == [p for p, _ in rows if not name.first <= p <= name.last]
    assert "anon:3" not in tracks_in(left)


async def test_a_segment_whose_index_is_damaged_goes_with_an_erasure() -> None:
    archive = MemoryArchive()
    segments = Segments(archive)
    rows = await small_ones(segments, 2)
    name = (await segments.names(P))[0]
    archive.held[str(name)] = archive.held[str(name)][:-9]
    await SegmentUpkeep(Segments(archive)).redact(P, 1, ["anon:0"], of("anon:0"))
    assert [position for position, _ in await everything(archive)] == [position for position, _ in rows[5:]]


# -- beyond retention --------------------------------------------------------------------------------------


async def test_records_leave_one_by_one_a_day_after_their_time(archive: Archive) -> None:
    segments = Segments(archive)
    upkeep = SegmentUpkeep(segments)
    days_ago = [40, 33, 29, 10]
    rows = [row(i, signal_of(f"anon:{d}", NOW - d * DAY_MS), decision_of(f"anon:{d}", NOW - d * DAY_MS))
            for i, d in enumerate(days_ago)]  # fmt: skip
    await segments.add(P, 1, rows, NOW)
    assert await upkeep.expire(P, 1, limits(decisions=60), NOW) == 1
    assert tracks_in(await everything(archive)) == [
        None, "anon:40", None, "anon:33", "anon:29", "anon:29", "anon:10", "anon:10",
    ]  # fmt: skip
    assert await upkeep.expire(P, 1, limits(decisions=60), NOW) == 0
    later = {SIGNALS: NOW - 28 * DAY_MS, DECISIONS: NOW - 58 * DAY_MS, OTHER: NOW - 88 * DAY_MS}
    assert await upkeep.expire(P, 1, later, NOW + 2 * DAY_MS) == 1
    assert tracks_in(await everything(archive)).count("anon:29") == 1
    assert len(await archive.list("p0003/")) == 1


async def test_a_segment_is_not_read_again_at_every_look() -> None:
    archive, reads = MemoryArchive(), list[Any]()
    segments = Segments(archive)
    old, young = signal_of("anon:a", NOW - 40 * DAY_MS), signal_of("anon:b", NOW)
    await segments.add(P, 1, [row(1, old), row(2, young)], NOW)
    upkeep = SegmentUpkeep(segments)
    assert await upkeep.expire(P, 1, limits(), NOW) == 1
    archive.fault = lambda verb, name: reads.append(name) if verb == "read" else None
    for hour in range(23):
        assert await upkeep.expire(P, 1, limits(), NOW + hour * 3_600_000) == 0
    assert reads == []


def test_choosing_among_thousands_of_segments_compares_neighbours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [SegmentName(P, (1, i), (1, i), NOW, NOW, "s", 1, revision) for i in range(2_000) for revision in (0, 1)]
    asked = 0
    plain = SegmentName.replaces

    def counted(self: SegmentName, other: SegmentName) -> bool:
        nonlocal asked
        asked += 1
        return plain(self, other)

    monkeypatch.setattr(SegmentName, "replaces", counted)
    assert in_force(names) == [name for name in names if name.revision == 1]
    assert asked < 3 * len(names)
