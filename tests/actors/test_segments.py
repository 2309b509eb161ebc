"""Segments of the journal in every archive: found by position and by range, redacted, expired."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from actors.archive import Archive, MemoryArchive
from actors.segment import DamagedSegment, Row
from actors.segment_name import DECISIONS, OTHER, SIGNALS, SegmentName
from actors.segment_records import Unwanted
from actors.segment_upkeep import SegmentUpkeep
from actors.segments import Segments
from tests.actors.archives import archive, s3_address

__all__ = ["archive", "s3_address"]

P = 3
NOW = 1_764_000_000_000


def row(seq: int, *records: list[Any] | None, epoch: int = 1) -> Row:
    return (epoch, seq), orjson.dumps([1, *records])


def signal_of(track: str, t_ms: int = NOW) -> list[Any]:
    return ["s", track, t_ms, 0, [["page", t_ms, 7, {"url": "https://shop.example/" + "x" * 50}]]]


def decision_of(track: str, t_ms: int = NOW) -> list[Any]:
    return ["d", track, t_ms, 1]


def tracks_in(rows: list[Row]) -> list[str | None]:
    return [record and record[1] for _, payload in rows for record in orjson.loads(payload)[1:]]


def of(track: str) -> Unwanted:
    return lambda _position, _index, record: record[1] == track


def limits(**days: int) -> dict[str, int]:
    kept = {"signals": 30, "decisions": 30, "other": 90} | days
    kinds = {"signals": SIGNALS, "decisions": DECISIONS, "other": OTHER}
    return {kinds[name]: NOW - n * 86_400_000 for name, n in kept.items()}


async def test_an_entry_is_found_by_its_position_and_by_range_after_a_restart(archive: Archive) -> None:
    rows = [row(seq, signal_of(f"anon:{seq}")) for seq in range(1, 4001)]
    await Segments(archive).add(P, 1, rows[:3000], NOW)
    await Segments(archive).add(P, 1, rows[3000:], NOW)
    segments = Segments(archive)
    for seq in (1, 1500, 3000, 3001, 4000):
        assert await segments.get(P, (1, seq)) == rows[seq - 1][1]
    assert await segments.get(P, (1, 4001)) is None
    assert await segments.get(P + 1, (1, 1)) is None
    assert await segments.read(P, None, 10) == rows[:10]
    assert await segments.read(P, (1, 2995), 10) == rows[2995:3005]
    assert await segments.read(P, (1, 4000), 10) == []
    assert (await segments.first(P), await segments.last(P)) == ((1, 1), (1, 4000))


async def test_redaction_removes_a_track_for_good_and_leaves_every_other_byte_in_place(archive: Archive) -> None:
    rows = [row(seq, signal_of(f"anon:{seq % 40}"), decision_of(f"anon:{(seq + 1) % 40}")) for seq in range(1, 801)]
    segments = Segments(archive)
    await segments.add(P, 1, rows, NOW)
    assert await SegmentUpkeep(segments).redact(P, 1, ["anon:7"], of("anon:7")) == 40
    for reader in (segments, Segments(archive)):
        held = await reader.read(P, None, 1000)
        assert [position for position, _ in held] == [position for position, _ in rows]
        assert tracks_in(held).count(None) == 40
        assert "anon:7" not in tracks_in(held)
        assert tracks_in(held).count("anon:8") == 40
        assert await reader.get(P, (1, 1)) == rows[0][1]
    assert len(await archive.list("p0003/")) == 1
    assert await SegmentUpkeep(segments).redact(P, 1, ["anon:7"], of("anon:7")) == 0


async def test_redaction_stops_at_the_position_of_the_erasure(archive: Archive) -> None:
    segments = Segments(archive)
    await segments.add(P, 1, [row(1, signal_of("anon:a")), row(2, signal_of("anon:a"))], NOW)
    assert await SegmentUpkeep(segments).redact(P, 1, ["anon:a"], lambda at, _index, _record: at <= (1, 1)) == 1
    assert tracks_in(await segments.read(P, None, 10)) == [None, "anon:a"]


async def test_the_entries_of_a_track_are_found_without_reading_the_others(archive: Archive) -> None:
    segments = Segments(archive)
    rows = [row(seq, signal_of(f"anon:{seq}")) for seq in range(1, 3001)]
    await segments.add(P, 1, rows, NOW)
    end, found = await segments.naming(P, ["anon:2999"])
    assert end == (1, 3000)
    assert rows[2998] in found
    assert rows[0] not in found


async def test_a_crash_between_the_two_steps_of_a_redaction_brings_nothing_back() -> None:
    archive = MemoryArchive()
    segments = Segments(archive)
    await segments.add(P, 1, [row(1, signal_of("anon:a")), row(2, signal_of("anon:b"))], NOW)

    def crash(verb: str, _name: str) -> None:
        if verb == "delete":
            raise RuntimeError("killed")

    archive.fault = crash
    with pytest.raises(RuntimeError):
        await SegmentUpkeep(segments).redact(P, 1, ["anon:a"], of("anon:a"))
    archive.fault = lambda _verb, _name: None
    again = Segments(archive)
    assert tracks_in(await again.read(P, None, 10)) == [None, "anon:b"]
    await SegmentUpkeep(again).tidy(P)
    assert len(archive.held) == 1


async def test_a_fenced_writers_last_segment_is_read_once_and_never_before_the_owners(archive: Archive) -> None:
    rows = [row(seq, signal_of("anon:a" if seq == 2 else "anon:b")) for seq in range(1, 5)]
    owner = Segments(archive)
    await owner.add(P, 5, rows[:3], NOW)
    await SegmentUpkeep(owner).redact(P, 5, ["anon:a"], of("anon:a"))
    await Segments(archive).add(P, 4, rows[1:], NOW)
    assert tracks_in(await Segments(archive).read(P, None, 10)) == ["anon:b", None, "anon:b", "anon:b"]


async def test_a_segment_goes_when_all_its_kinds_are_beyond_retention(archive: Archive) -> None:
    segments = Segments(archive)
    old = NOW - 40 * 86_400_000
    await segments.add(P, 1, [row(1, signal_of("anon:a", old), decision_of("anon:a", old))], NOW)
    await segments.add(P, 1, [row(2, signal_of("anon:a", NOW))], NOW)
    assert await SegmentUpkeep(segments).expire(P, 1, limits(signals=50, decisions=50), NOW) == 0
    assert await SegmentUpkeep(segments).expire(P, 1, limits(), NOW) == 1
    assert await segments.get(P, (1, 1)) is None
    assert await segments.get(P, (1, 2)) is not None
    assert len(await archive.list("p0003/")) == 1


async def test_a_segment_is_thinned_once_when_some_kinds_are_beyond_retention(archive: Archive) -> None:
    segments = Segments(archive)
    old = NOW - 40 * 86_400_000
    await segments.add(P, 1, [row(1, signal_of("anon:a", old), decision_of("anon:b", old), ["m", "anon:c", old])], NOW)
    assert await SegmentUpkeep(segments).expire(P, 1, limits(decisions=60), NOW) == 1
    assert tracks_in(await segments.read(P, None, 10)) == [None, "anon:b", "anon:c"]
    assert await SegmentUpkeep(segments).expire(P, 1, limits(decisions=60), NOW) == 0
    assert await SegmentUpkeep(segments).expire(P, 1, limits(), NOW) == 1
    assert tracks_in(await segments.read(P, None, 10)) == [None, None, "anon:c"]


async def test_a_damaged_segment_is_refused_and_not_believed() -> None:
    archive = MemoryArchive()
    name = await Segments(archive).add(P, 1, [row(1, signal_of("anon:a"))], NOW)
    blob = bytearray(archive.held[str(name)])
    blob[30] ^= 1
    archive.held[str(name)] = bytes(blob)
    with pytest.raises(DamagedSegment):
        await Segments(archive).get(P, (1, 1))


async def test_what_is_not_a_segment_is_left_alone(archive: Archive) -> None:
    await archive.put("p0003/notes.txt", b"mine")
    segments = Segments(archive)
    await SegmentUpkeep(segments).tidy(P)
    assert await segments.names(P) == []
    assert await archive.read("p0003/notes.txt", 0, 4) == b"mine"


def test_names_sort_as_positions_do_and_say_all_that_retention_asks() -> None:
    name = SegmentName(12, (9, 10), (10, 2), NOW, NOW + 5, "ds", 10, 1)
    assert SegmentName.parse(str(name)) == name
    later = SegmentName(12, (10, 3), (10, 9), NOW, NOW, "", 10, 0)
    assert str(name) < str(later)
    assert SegmentName.parse("p0012/notes.txt") is None
