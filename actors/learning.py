"""Learning from the journal: every partition read on from where it was left; examples in a window, saved as one.

Exactly once through kills: offsets, window, what is attributed and what subscribers hold are one blob. Whoever dies
reads again from there what came after, and comes to the same.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from actors.history import CHUNK, History
from actors.learning_saves import Saves
from actors.lessons import Columns
from actors.segment import Row
from actors.stores import Journal, Position, Versions
from engine.book import compile_book, load_book
from engine.compiled import CompiledBook
from engine.errors import InvalidInput, KairosError
from engine.record import DECISION, FORGOTTEN, Record, forgotten_mark, only_head
from training.attribution import GRACE_MS, Attribution
from training.example import Example
from training.keeping import keep_what_matures
from training.pace import Pace
from training.saved_state import from_bytes, to_bytes
from training.window import CAPACITY, Window

log = logging.getLogger("kairos.learning")

AT_ONCE: Final = 8
"""Partitions that are asked for what is new at the same time."""
TOGETHER: Final = 2_000
"""Examples from which on they are put into the window before more is read."""
REST: Final = 20
"""A save is not begun before so many times its own length has passed since the last."""


class Subscriber(Protocol):
    """Whoever follows the examples, with a state of its own that is saved at the same moment."""

    @property
    def name(self) -> str:
        """Under which its state is kept."""
        ...

    def take(self, examples: Sequence[Example]) -> None:
        """New and changed examples; after a kill some are told again to the state of the last save."""
        ...

    def state(self) -> Any:
        """What it holds, as JSON can hold it."""
        ...

    def restore(self, state: Any) -> None:
        """Take back what `state` gave; called before the first `take`, and not at all where nothing was saved."""
        ...


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """Limits of one reader; times in ms."""

    window_rows: int = CAPACITY
    grace_ms: int = GRACE_MS
    """What is waited beyond a conversion's window before nothing having come is believed."""
    slack_ms: int = 5_000
    """How long what a shard has received may be on its way into the journal."""
    save_every_ms: int = 60_000
    rounds: int = 8
    """Chunks of a partition that are read at most before others are told what is new."""
    most_per_s: float = math.inf
    """Examples a second: where more could be taken on, they are those of a sample of the profiles."""


class Learning:
    """Verbs: subscribe, resume, advance, save. `window` holds the examples.

    One at a time of a name: two would only do the same work twice.
    """

    def __init__(
        self,
        journal: Journal,
        history: History,
        n_partitions: int,
        versions: Versions,
        saves: Saves | None,
        clock: Callable[[], int],
        key: bytes,
        settings: LearningSettings | None = None,
    ) -> None:
        self._journal, self._history, self._n_partitions = journal, history, n_partitions
        self._versions, self._saves, self._clock, self._key = versions, saves, clock, key
        self.settings = settings or LearningSettings()
        self._subscribers: list[Subscriber] = []
        self._books: dict[str, CompiledBook | None] = {}
        self._lock = asyncio.Lock()
        self._resumed = self._forgot = False
        self._next_save_ms = 0
        self.n_entries = 0
        self._fresh()

    def _fresh(self) -> None:
        self.offsets: list[Position | None] = [None] * self._n_partitions
        self.window = Window(self.settings.window_rows)
        self.attribution = Attribution(self._n_partitions, self._books.get, self._mark, self.settings.grace_ms)
        self._pace = Pace(self.settings.most_per_s)

    def _mark(self, track: str) -> int:
        return forgotten_mark(self._key, track)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have someone follow; before `resume`."""
        self._subscribers.append(subscriber)

    # -- what the trainer asks -------------------------------------------------------------------------

    @property
    def n_rows(self) -> int:
        """How many matured rows there are to learn from."""
        return self.window.n_matured

    def columns(self, limit: int) -> Columns:
        """The newest matured rows, at most `limit`."""
        rows = self.window.matured()
        return Columns(rows.x[-limit:], rows.y[-limit:], rows.t_ms[-limit:], rows.track[-limit:], rows.key[-limit:])

    def told(self) -> dict[str, Any]:
        """How far it is: what was read, what is kept, and how far behind the clock the examples are."""
        watermark_ms = self.attribution.watermark_ms
        return {
            "entries": self.n_entries,
            "examples": len(self.window),
            "share": self.attribution.taken_share,
            "matured": self.window.n_matured,
            "watermark_ms": watermark_ms or None,
            "behind_ms": max(0, self._clock() - watermark_ms) if watermark_ms else None,
            **self.attribution.counts,
        }

    # -- life ------------------------------------------------------------------------------------------

    async def resume(self) -> bool:
        """Go on from what was saved; False where there is nothing that can be gone on from."""
        found = await self._resume()
        self._resumed = True
        return found

    async def _resume(self) -> bool:
        for blob in await self._saves.load() if self._saves is not None else []:
            try:
                found = await asyncio.to_thread(from_bytes, blob, self.attribution, self.settings.window_rows)
            except Exception as failure:
                log.error("a saved window cannot be read, the one before it is tried: %s", failure)
                self._fresh()
                continue
            if found is None:
                log.warning("the saved window is of another feature schema or data set; learning begins anew")
                self._fresh()
                return False
            self.window, extra = found
            self.offsets = [None if at is None else (at[0], at[1]) for at in extra["offsets"]]
            for subscriber in self._subscribers:
                if subscriber.name in extra["held"]:
                    subscriber.restore(extra["held"][subscriber.name])
            return True
        return False

    async def ends(self) -> list[Position | None]:
        """Where the journals of all partitions end now."""
        return list(await self._journal.lasts(range(self._n_partitions)))

    async def pass_over(self, ends: Sequence[Position | None], kept: Collection[int], *, anew: bool) -> None:
        """Leave what lies before these ends unread, but for the partitions `kept`.

        `anew`: what was read until now is forgotten and leaves the saves. An erasure in a partition that is passed
        over would not reach it.
        """
        async with self._lock:
            offsets = self.offsets
            if anew:
                self._fresh()
            self.offsets = [offsets[p] if p in kept else end for p, end in enumerate(ends)]
            passed_ms = self._clock() - self.settings.slack_ms
            for partition in range(self._n_partitions):
                if partition not in kept:
                    self.attribution.advance(partition, passed_ms)
            self._forgot |= anew

    async def advance(self, only: Collection[int] | None = None) -> list[Example]:
        """Read what the journal has gained, let mature what is due; gives the examples that are new or changed.

        `only`: the partitions that are read, where not all of them are.

        Raises:
            engine.errors.Unavailable: the store does not answer; what was read until then is kept.
        """
        async with self._lock:
            if not self._resumed:
                await self.resume()
            told: list[Example] = []
            try:
                now_ms = self._clock()
                # The ends are asked first: it is cheap, and most of the time most partitions have nothing new.
                partitions = sorted(only) if only is not None else range(self._n_partitions)
                ends = dict(zip(partitions, await self._journal.lasts(partitions), strict=True))
                for start in range(0, len(partitions), AT_ONCE):
                    some = partitions[start : start + AT_ONCE]
                    found = await asyncio.gather(*(self._next(partition, ends[partition]) for partition in some))
                    for partition, rows in zip(some, found, strict=True):
                        await self._read_on(partition, rows, ends[partition], now_ms, told)
            finally:
                # Also where the store fails: what was read is passed by the offsets.
                self._keep(told)
                self._pace.look(self.attribution)
                if told:
                    for subscriber in self._subscribers:
                        subscriber.take(told)
            now_ms = self._clock()
            if self._saves is not None and (self._forgot or now_ms >= self._next_save_ms):
                await self._save()
            return told

    async def save(self) -> None:
        """Save now, as before an orderly end."""
        async with self._lock:
            await self._save()

    # -- reading ---------------------------------------------------------------------------------------

    async def _next(self, partition: int, end: Position | None) -> list[Row]:
        """What comes next in a partition that ended there when it was looked at."""
        if end is None or end == self.offsets[partition]:
            return []
        return await self._history.read(partition, self.offsets[partition], CHUNK)

    async def _read_on(
        self, partition: int, rows: list[Row], end: Position | None, now_ms: int, told: list[Example]
    ) -> None:
        for _ in range(self.settings.rounds):
            for position, payload in rows:
                head = only_head(payload)
                if head is not None and head.kind == DECISION and self.attribution.leaves_out(head.track):
                    self.attribution.leave_out(partition, head.received_ms)
                else:
                    # One by one: what is taken apart is let go while it is still in the processor's cache.
                    records = orjson.loads(payload)[1:]
                    await self._prepare(records)
                    self.attribution.observe(partition, position, records)
                self.offsets[partition] = position
            self.n_entries += len(rows)
            if self.attribution.n_opened >= TOGETHER:
                self._keep(told)
                self._pace.hold(self.attribution, now_ms - self.settings.slack_ms)
            at = self.offsets[partition]
            if not rows or end is None or (at is not None and at >= end):
                # Its end was reached: nothing received before the look is still to come, but for what is on its way.
                self.attribution.advance(partition, now_ms - self.settings.slack_ms)
                return
            await asyncio.sleep(0)
            rows = await self._history.read(partition, at, CHUNK)

    def _keep(self, told: list[Example]) -> None:
        told += keep_what_matures(self.attribution, self.window)

    async def _prepare(self, records: list[Record | None]) -> None:
        """See to what records need besides themselves: the books of decisions, and that what is forgotten is saved."""
        for record in records:
            if record is None:
                continue
            if record[0] == DECISION:
                if record[5][1] not in self._books:
                    await self._fetch_book(record[5][1])
            elif record[0] == FORGOTTEN:
                self._forgot = True

    async def _fetch_book(self, version: str) -> None:
        found = await self._versions.get("book", version)
        try:
            self._books[version] = found and compile_book(load_book(orjson.loads(found[1])), version)
        except InvalidInput as failure:
            log.error("book %s cannot be read, nothing is learned of its decisions: %s", version, failure)
            self._books[version] = None

    async def _save(self) -> None:
        if self._saves is None:
            return
        began_ms = self._clock()
        self.window.compact()
        extra = {"offsets": self.offsets, "held": {s.name: s.state() for s in self._subscribers}}
        blob = await asyncio.to_thread(to_bytes, self.attribution, self.window, extra)
        try:
            await self._saves.save(blob, alone=self._forgot)
        except KairosError as failure:
            log.warning("the window could not be saved and will be again: %s", failure.message)
        else:
            self._forgot = False
        took_ms = self._clock() - began_ms
        self._next_save_ms = began_ms + max(self.settings.save_every_ms, REST * took_ms)
