"""Whatever is archived, erased, merged, cut off by kills and taken over: nothing is missing, and erased is erased."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.archive import MemoryArchive
from actors.segment import Row
from actors.segment_upkeep import SegmentUpkeep
from actors.segments import Segments
from engine.errors import KairosError, Unavailable
from tests.actors.test_segments import NOW, P, of, row, signal_of, tracks_in

TRACKS = ["anon:a", "anon:b", "anon:c"]


class Killed(BaseException):
    """The process ended here."""


class Life:
    """An archive, its owner, and what must be in it."""

    def __init__(self) -> None:
        self.archive, self.epoch, self.seq = MemoryArchive(), 1, 0
        self.expected: dict[tuple[int, int], list[str | None]] = {}
        self.erased: set[str] = set()
        self.take_over()

    def take_over(self) -> None:
        self.epoch += 1
        self.segments = Segments(self.archive)
        self.upkeep = SegmentUpkeep(self.segments)
        self.archive.fault = lambda _verb, _name: None

    def fail_at(self, n: int, failure: BaseException) -> None:
        """At the nth call from now."""
        left = n

        def fault(_verb: str, _name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise failure

        self.archive.fault = fault

    async def do(self, what: str, which: int) -> None:
        if what == "add":
            rows: list[Row] = []
            for _ in range(1 + which):
                self.seq += 1
                named = [TRACKS[(self.seq + i) % 3] for i in range(2)]
                rows.append(row(self.seq, *[signal_of(track) for track in named]))
                self.expected[1, self.seq] = list(named)
            # A real owner takes them from the journal again until they are archived.
            while rows:
                last = await self.segments.last(P)
                rows = [r for r in rows if last is None or r[0] > last]
                if rows:
                    await self.segments.add(P, self.epoch, rows, NOW)
        elif what == "redact":
            track = TRACKS[which % 3]
            await self.upkeep.redact(P, self.epoch, [track], of(track))
            self.erased.add(track)
            assert not any(track.encode() in payload for payload in await self.bytes_held())
            self.erased.discard(track)
            for named in self.expected.values():
                named[:] = [None if name == track else name for name in named]
        elif what == "merge":
            while await self.upkeep.merge(P, self.epoch, 10**9, 10**15):
                pass
        else:
            await self.upkeep.tidy(P)

    async def bytes_held(self) -> list[bytes]:
        """Every entry in every blob, in force or not."""
        found = []
        for name in list(self.archive.held):
            alone = MemoryArchive()
            alone.held[name] = self.archive.held[name]
            found += [payload for _, payload in await Segments(alone).read(P, None, 10**6)]
        return found

    async def check(self, unsure: str | None) -> None:
        held = await Segments(self.archive).read(P, None, 10**6)
        positions = [position for position, _ in held]
        assert positions == sorted(set(positions))
        for position, payload in held:
            wanted = self.expected[position]
            named = tracks_in([(position, payload)])
            # An erasure that was cut off may have reached some segments and not others.
            assert all(a == b or (a is None and b == unsure) for a, b in zip(named, wanted, strict=True))
        assert set(positions) == {at for at in self.expected if at in positions}
        missing = [at for at in self.expected if at not in positions]
        assert missing == [] or missing[0] > max(positions, default=(0, 0))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "add", "redact", "merge", "tidy"]),
            st.integers(0, 9),
            st.one_of(st.none(), st.tuples(st.integers(1, 12), st.booleans())),
        ),
        max_size=25,
    )
)
def test_nothing_is_missing_or_double_and_what_was_erased_is_in_no_file(
    steps: list[tuple[str, int, tuple[int, bool] | None]],
) -> None:
    async def live() -> None:
        life = Life()
        unsure: str | None = None
        for what, which, fails in steps:
            if fails is not None:
                at, kills = fails
                life.fail_at(at, Killed() if kills else Unavailable("archive_unavailable", "not now"))
            try:
                await life.do(what, which)
            except (Killed, KairosError) as failure:
                if what == "redact":
                    unsure = TRACKS[which % 3]
                if isinstance(failure, Killed):
                    life.take_over()
                life.archive.fault = lambda _verb, _name: None
                # What was begun is gone on with, by the same owner or the next.
                with suppress(KairosError):
                    await life.do(what, which) if what == "redact" else await life.check(unsure)
                unsure = None
            life.archive.fault = lambda _verb, _name: None
            if what == "add":
                await refill(life)
            await life.check(unsure)

    asyncio.run(live())


async def refill(life: Life) -> None:
    """What an owner still has in its journal is archived now."""
    last = await Segments(life.archive).last(P)
    left = [
        (at, orjson.dumps([1, *[None if name is None else signal_of(name) for name in named]]))
        for at, named in sorted(life.expected.items())
        if last is None or at > last
    ]
    if left:
        await life.segments.names(P, fresh=True)
        await life.segments.add(P, life.epoch, left, NOW)
