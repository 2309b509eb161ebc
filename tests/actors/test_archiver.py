"""The tail of the journal stays bounded, and archive and tail together stay the whole journal, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.archive import MemoryArchive
from actors.archive_settings import ArchiveSettings
from actors.archiver import AT_ONCE, Archiver
from actors.history import History
from actors.memory import MemoryJournal
from actors.segment import Row
from actors.segments import Segments
from actors.stores import APPENDED, Entry, Position
from engine.errors import Fenced, Unavailable
from tests.actors.town import until

P = 5
NOW = 1_764_000_000_000
DAY_MS = 86_400_000
SMALL = ArchiveSettings(tail_bytes=2_000, hard_bytes=6_000, segment_bytes=1_000)


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Tail:
    """A partition as the archiver sees it."""

    index: int = P
    epoch: int = 1
    ready: bool = True
    position: Position = (1, 0)
    covered: Position = (0, 0)
    n_written: int = 0


class Place:
    """A journal with an archive beside it and an owner who can be killed at any call to either."""

    def __init__(self, limits: ArchiveSettings = SMALL) -> None:
        self.journal, self.archive, self.limits = MemoryJournal(), MemoryArchive(), limits
        self.tail, self.written, self.now_ms = Tail(), list[Row](), NOW
        self.archiver = self.opened()

    def opened(self) -> Archiver:
        return Archiver(self.journal, self.archive, self.limits, lambda: self.now_ms)

    async def write(self, n: int, size: int = 100, track: str = "anon:a", t_ms: int | None = None) -> None:
        for _ in range(n):
            self.tail.position = (self.tail.epoch, self.tail.position[1] + 1)
            payload = orjson.dumps([1, ["s", track, t_ms or self.now_ms, 0, "x" * size]])
            assert await self.journal.append([Entry(P, *self.tail.position, payload)]) == [APPENDED]
            self.written.append((self.tail.position, payload))
            self.tail.n_written += len(payload)

    def cover(self) -> None:
        self.tail.covered = self.tail.position

    async def take_over(self) -> None:
        self.tail = Tail(epoch=self.tail.epoch + 1, position=(self.tail.epoch + 1, 0), covered=self.tail.covered)
        payload = orjson.dumps([1])
        assert await self.journal.append([Entry(P, *self.tail.position, payload)]) == [APPENDED]
        self.written.append((self.tail.position, payload))
        self.archiver = self.opened()

    async def turns(self) -> None:
        while await self.archiver.turn(self.tail):
            pass

    async def all(self) -> list[Row]:
        return [row async for row in History(self.journal, Segments(self.archive), foreign=True).entries(P)]

    async def bytes_of_tail(self) -> int:
        return (await self.journal.size(P))[1]


async def test_the_tail_is_bounded_and_nothing_is_missing_or_double() -> None:
    place = Place()
    await place.write(200)
    place.cover()
    await place.turns()
    assert await place.bytes_of_tail() <= SMALL.tail_bytes + SMALL.segment_bytes
    assert place.archiver.counts["segments"] > 1
    assert await place.all() == place.written


async def test_what_no_snapshot_covers_stays_in_the_tail() -> None:
    place = Place()
    await place.write(50)
    place.cover()
    await place.write(100)
    await place.turns()
    first = await place.journal.first(P)
    assert first == (1, 51)
    assert await place.all() == place.written


async def test_a_quiet_partitions_old_entries_are_archived_too() -> None:
    place = Place()
    await place.write(3)
    place.cover()
    await place.turns()
    assert place.archive.held == {}
    place.now_ms += 2 * DAY_MS
    await place.write(1)
    await place.turns()
    assert await place.journal.first(P) == (1, 4)
    assert await place.all() == place.written


async def test_a_quiet_partition_makes_few_segments_of_many_looks() -> None:
    place = Place()
    for _ in range(30 * 24):
        place.now_ms += 3_600_000
        await place.write(1)
        place.cover()
        await place.turns()
    made = place.archiver.counts["segments"]
    assert made <= 30 * 5
    assert len(place.archive.held) <= 30
    assert await place.all() == place.written
    oldest, _ = (await place.journal.read(P, None, 1))[0]
    assert place.written[-1][0][1] - oldest[1] <= 26


async def test_a_clock_that_is_put_back_makes_nothing_wait_for_it() -> None:
    place = Place()
    await place.write(3)
    place.cover()
    await place.turns()
    place.now_ms -= 300 * DAY_MS
    await place.write(1)
    place.cover()
    await place.turns()
    place.now_ms += 10 * 60_000
    looked: list[str] = []
    place.archive.fault = lambda verb, _name: looked.append(verb)
    await place.turns()
    assert looked


async def test_an_archive_that_fails_lets_the_tail_grow_to_its_limit_and_says_so_and_recovers() -> None:
    place = Place()

    def full(verb: str, _name: str) -> None:
        if verb == "put":
            raise Unavailable("archive_full", "no space left on device")

    place.archive.fault = full
    await place.write(30)
    place.cover()
    with pytest.raises(Unavailable):
        await place.turns()
    assert place.archiver.full(P) is None
    await place.write(60)
    place.cover()
    with pytest.raises(Unavailable):
        await place.turns()
    assert "no space left" in (place.archiver.full(P) or "")
    assert await place.all() == place.written
    place.archive.fault = lambda _verb, _name: None
    await place.turns()
    assert place.archiver.full(P) is None
    assert await place.bytes_of_tail() <= SMALL.tail_bytes + SMALL.segment_bytes
    assert await place.all() == place.written


async def test_a_tail_far_below_its_limits_is_not_asked_for_its_size_again() -> None:
    place = Place()
    await place.turns()
    asked, size = 0, place.journal.size

    async def counted(partition: int) -> tuple[int, int]:
        nonlocal asked
        asked += 1
        return await size(partition)

    place.journal.size = counted  # type: ignore[method-assign]
    await place.write(4)
    place.cover()
    await place.turns()
    assert asked == 0
    await place.write(40)
    place.cover()
    await place.turns()
    assert asked > 0
    assert await place.bytes_of_tail() <= SMALL.tail_bytes + SMALL.segment_bytes


async def test_several_partitions_are_moved_at_once_and_not_all_of_them() -> None:
    place, waiting, go = Place(), list[str](), asyncio.Event()
    put = place.archive.put
    all_wait = asyncio.Event()

    async def slow(name: str, data: bytes) -> None:
        waiting.append(name)
        if len(waiting) == AT_ONCE:
            all_wait.set()
        await go.wait()
        await put(name, data)

    place.archive.put = slow  # type: ignore[method-assign]
    tails = [Tail(index, position=(1, 60), covered=(1, 60), n_written=10_000) for index in range(AT_ONCE + 2)]
    for tail in tails:
        for seq in range(1, 61):
            payload = orjson.dumps([1, ["s", "anon:a", NOW, 0, "x" * 100]])
            assert await place.journal.append([Entry(tail.index, 1, seq, payload)]) == [APPENDED]
    running = asyncio.create_task(place.archiver.run(lambda: tails))
    async with asyncio.timeout(10):
        await all_wait.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(waiting) == AT_ONCE
        go.set()
        await until(lambda: len({name.split("/")[0] for name in waiting}) == len(tails))
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert len({name.split("/")[0] for name in waiting}) == len(tails)


async def test_a_fenced_archiver_trims_nothing() -> None:
    place = Place()
    await place.write(100)
    place.cover()
    stale, tail = place.archiver, place.tail
    await place.take_over()
    with pytest.raises(Fenced):
        await stale.turn(tail)
    assert await place.journal.first(P) == (1, 1)


async def test_what_a_fenced_archiver_still_wrote_changes_nothing() -> None:
    place = Place()
    await place.write(100)
    place.cover()
    stale, tail = place.archiver, place.tail
    gate, reached = asyncio.Event(), asyncio.Event()
    put = place.archive.put

    async def held(name: str, blob: bytes) -> None:
        reached.set()
        await gate.wait()
        await put(name, blob)

    place.archive.put = held  # type: ignore[method-assign]
    late = asyncio.ensure_future(stale.turn(tail))
    await reached.wait()
    place.archive.put = put  # type: ignore[method-assign]
    await place.take_over()
    place.cover()
    await place.turns()
    gate.set()
    with pytest.raises(Fenced):
        await late
    assert await place.all() == place.written


async def test_a_reader_sees_every_entry_once_while_they_move() -> None:
    place = Place()
    await place.write(300)
    place.cover()
    history = History(place.journal, place.archiver.segments)

    moving = asyncio.ensure_future(place.turns())
    seen: list[Row] = []
    after: Position | None = None
    while rows := await history.read(P, after, 7):
        seen += rows
        after = rows[-1][0]
        await asyncio.sleep(0)
    await moving
    assert seen == place.written
    assert place.archive.held


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40).map(lambda n: n * 150),  # bytes written
            st.booleans(),  # then covered by snapshots
            st.sampled_from([0, 0, 1]),  # days that pass
            st.one_of(st.none(), st.tuples(st.integers(0, 14), st.booleans())),  # killed at a call, or lives
        ),
        max_size=8,
    )
)
def test_archive_and_tail_are_the_whole_journal_whatever_the_crashes(
    turns: list[tuple[int, bool, int, tuple[int, bool] | None]],
) -> None:
    async def life() -> None:
        place = Place(replace(SMALL, signals_ms=10**15))
        for n_bytes, covers, days, killed in turns:
            place.now_ms += days * DAY_MS
            await place.write(n_bytes // 200)
            if covers:
                place.cover()
            if killed is None:
                await place.turns()
            else:
                kill = Kill(*killed)
                journal, archive = kill.among(place.journal), kill.among(place.archive)
                place.archiver = Archiver(journal, archive, place.limits, lambda: place.now_ms)
                with suppress(Killed):
                    await place.turns()
                await place.take_over()
            assert await place.all() == place.written
            names = await Segments(place.archive).names(P)
            assert all(earlier.last < later.first for earlier, later in pairwise(names))
            held = [position for position, _ in await place.journal.read(P, None, 10**6)]
            assert [at for at, _ in place.written if at > place.tail.covered and at not in held] == []

    asyncio.run(life())


class Kill:
    """The process is killed with one of its next calls to journal or archive, before or after it took effect."""

    def __init__(self, after_calls: int, done_first: bool) -> None:
        self._left, self._done_first = after_calls, done_first

    def among(self, target: Any) -> Any:
        """The same thing, until then."""
        kill = self

        class Mortal:
            def __getattr__(self, name: str) -> Callable[..., Any]:
                return lambda *given: kill._call(getattr(target, name), *given)

        return Mortal()

    async def _call(self, work: Callable[..., Any], *given: Any) -> Any:
        self._left -= 1
        if self._left < 0 and not self._done_first:
            raise Killed
        result = await work(*given)
        if self._left < 0:
            raise Killed
        return result
