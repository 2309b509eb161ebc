"""The reference stores, in memory: what every other implementation must behave like, and where tests inject faults."""

from __future__ import annotations

import enum
import secrets
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import orjson

from actors.stores import (
    APPENDED,
    AppendResult,
    Entry,
    Fenced,
    Listing,
    Position,
    Refused,
    Stores,
    TableState,
    Uncertain,
    in_order,
    partitions_fixed,
)
from engine.errors import Conflict, Unavailable
from engine.errors import Fenced as FencedError

NEVER: Position = (0, 0)


class Fault(enum.Enum):
    """How an append of the in-memory journal can be made to fail."""

    FENCED = "fenced"
    UNCERTAIN_WRITTEN = "uncertain, and written"
    UNCERTAIN_LOST = "uncertain, and not written"
    REFUSED = "refused"


class MemoryJournal:
    """A list of entries a partition, with the id rule of Valkey's streams.

    `fault` is asked for every entry; None lets it pass. `gate` is awaited before every append, so that a test can
    hold one in flight.
    """

    def __init__(self) -> None:
        self.fault: Callable[[Entry], Fault | None] | None = None
        self.gate: Callable[[Sequence[Entry]], Awaitable[None]] | None = None
        self._entries: dict[int, list[tuple[Position, bytes]]] = {}
        self._last: dict[int, Position] = {}

    def fail_next(self, *faults: Fault) -> None:
        """Let the next entries fail like this, one fault an entry; afterwards all is well again."""
        queue = list(faults)
        self.fault = lambda _entry: queue.pop(0) if queue else None

    async def append(self, entries: Sequence[Entry]) -> list[AppendResult]:
        if self.gate is not None:
            await self.gate(entries)
        return [self._append(entry) for entry in entries]

    def _append(self, entry: Entry) -> AppendResult:
        fault = self.fault(entry) if self.fault is not None else None
        if fault is Fault.REFUSED:
            return Refused("OOM", "command not allowed when used memory > 'maxmemory'")
        if fault is Fault.UNCERTAIN_LOST:
            return Uncertain("connection lost")
        if fault is Fault.FENCED or entry.position <= self._last.get(entry.partition, NEVER):
            return Fenced(f"{entry.epoch}-{entry.seq} is not above the last id of partition {entry.partition}")
        self._entries.setdefault(entry.partition, []).append((entry.position, bytes(entry.payload)))
        self._last[entry.partition] = entry.position
        return Uncertain("connection lost") if fault is Fault.UNCERTAIN_WRITTEN else APPENDED

    async def last(self, partition: int) -> Position | None:
        return self._last.get(partition)

    async def lasts(self, partitions: Sequence[int]) -> list[Position | None]:
        return [self._last.get(partition) for partition in partitions]

    async def first(self, partition: int) -> Position | None:
        held = self._entries.get(partition)
        return held[0][0] if held else None

    async def read(self, partition: int, after: Position | None, limit: int) -> list[tuple[Position, bytes]]:
        held = self._entries.get(partition, [])
        start = 0 if after is None else bisect_right(held, after, key=itemgetter(0))
        return held[start : start + limit]

    async def read_back(self, partition: int, before: Position | None, limit: int) -> list[tuple[Position, bytes]]:
        held = self._entries.get(partition, [])
        end = len(held) if before is None else bisect_left(held, before, key=itemgetter(0))
        return held[max(0, end - limit) : end][::-1]

    async def get(self, partition: int, position: Position) -> bytes | None:
        held = self._entries.get(partition, [])
        at = bisect_left(held, position, key=itemgetter(0))
        return held[at][1] if at < len(held) and held[at][0] == position else None

    async def trim(self, partition: int, below: Position) -> int:
        held = self._entries.get(partition, [])
        n_gone = bisect_left(held, below, key=itemgetter(0))
        del held[:n_gone]
        return n_gone

    async def redact(self, partition: int, position: Position, payload: bytes | None) -> None:
        held = self._entries.get(partition, [])
        at = bisect_left(held, position, key=itemgetter(0))
        if at < len(held) and held[at][0] == position:
            held[at : at + 1] = [] if payload is None else [(position, bytes(payload))]

    async def size(self, partition: int) -> tuple[int, int]:
        held = self._entries.get(partition, [])
        return len(held), sum(len(payload) + 16 for _, payload in held)


class MemorySnapshots:
    """One dict a partition, fenced by the journal beside it."""

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal = journal
        self._held: dict[int, dict[str, bytes]] = {}
        self._covered: dict[int, Position] = {}

    async def load(self, keys: Sequence[tuple[int, str]]) -> list[bytes | None]:
        return [self._held.get(partition, {}).get(track) for partition, track in keys]

    async def save(
        self,
        partition: int,
        snapshots: Mapping[str, bytes],
        deleted: Collection[str],
        covered: Position,
        *,
        epoch: int,
    ) -> None:
        last = await self._journal.last(partition) or NEVER
        if last[0] > epoch:
            raise FencedError("fenced", f"partition {partition} is held under epoch {last[0]}, not {epoch}")
        held = self._held.setdefault(partition, {})
        for track in deleted:
            held.pop(track, None)
        held.update({track: bytes(form) for track, form in snapshots.items()})
        self._covered[partition] = covered

    async def covered(self, partition: int) -> Position | None:
        return self._covered.get(partition)

    async def tracks(self, partition: int) -> AsyncIterator[str]:
        for track in list(self._held.get(partition, {})):
            yield track


class MemoryVersions:
    """A dict of blobs and a pointer."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], tuple[dict[str, Any], bytes]] = {}
        self._world: dict[str, Any] = {"rev": 0, "book": "", "model": ""}

    async def put(self, kind: str, version: str, meta: Mapping[str, Any], blob: bytes) -> None:
        _, held = self._held.setdefault((kind, version), (dict(meta), bytes(blob)))
        if held != blob:
            raise Conflict("version_exists", f"{kind} {version} exists with other content")

    async def get(self, kind: str, version: str) -> tuple[dict[str, Any], bytes] | None:
        found = self._held.get((kind, version))
        return (dict(found[0]), found[1]) if found else None

    async def list(self, kind: str) -> Listing:
        return in_order([(version, dict(meta)) for (k, version), (meta, _) in self._held.items() if k == kind])

    async def delete(self, kind: str, version: str) -> bool:
        return self._held.pop((kind, version), None) is not None

    async def world(self) -> dict[str, Any]:
        return dict(self._world)

    async def publish(self, expected_rev: int, pointer: Mapping[str, Any]) -> bool:
        if self._world["rev"] != expected_rev:
            return False
        self._world = {**pointer, "rev": expected_rev + 1}
        return True


class MemoryTable:
    """The table as one value."""

    def __init__(self) -> None:
        self._state: TableState | None = None
        self._spoken: dict[int, tuple[int, str]] = {}
        self._epoch = 0
        self._secrets: dict[str, bytes] = {}

    async def create(self, n_partitions: int) -> TableState:
        if self._state is None:
            self._state = TableState.empty(n_partitions)
        if self._state.n_partitions != n_partitions:
            raise partitions_fixed(self._state.n_partitions, n_partitions)
        return await self.read()

    async def read(self) -> TableState:
        if self._state is None:
            raise Unavailable("no_table", "the partition table has not been created yet")
        return replace(
            self._state,
            addresses={shard: address for shard, (_, address) in self._spoken.items()},
            incarnations={shard: incarnation for shard, (incarnation, _) in self._spoken.items()},
        )

    async def compare_and_set(self, expected_version: int, new: TableState) -> bool:
        held = await self.read()
        if new.n_partitions != held.n_partitions:
            raise partitions_fixed(held.n_partitions, new.n_partitions)
        if held.version != expected_version:
            return False
        self._state = replace(new, version=expected_version + 1, addresses={}, incarnations={})
        return True

    async def next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    async def announce(self, shard: int, address: str, incarnation: int) -> bool:
        if incarnation < self._spoken.get(shard, (0, ""))[0]:
            return False
        self._spoken[shard] = incarnation, address
        return True

    async def secret(self, name: str) -> bytes:
        return self._secrets.setdefault(name, secrets.token_bytes(32))


class MemoryDocuments:
    """A dict of revs and documents."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, bytes]] = {}

    async def get(self, name: str) -> tuple[int, dict[str, Any]] | None:
        found = self._held.get(name)
        return (found[0], orjson.loads(found[1])) if found else None

    async def compare_and_set(self, name: str, expected_rev: int, document: Mapping[str, Any]) -> bool:
        rev = self._held[name][0] if name in self._held else 0
        if rev != expected_rev:
            return False
        self._held[name] = rev + 1, orjson.dumps(dict(document))
        return True

    async def list(self, prefix: str) -> list[tuple[str, int, dict[str, Any]]]:
        named = sorted(name for name in self._held if name.startswith(prefix))
        return [(name, self._held[name][0], orjson.loads(self._held[name][1])) for name in named]

    async def delete(self, name: str) -> bool:
        return self._held.pop(name, None) is not None


def memory_stores(journal: MemoryJournal | None = None) -> Stores:
    """A store that lives and dies with this object; give it the journal to hold on to its fault hooks."""
    journal = journal or MemoryJournal()
    return Stores(journal, MemorySnapshots(journal), MemoryVersions(), MemoryTable(), MemoryDocuments())
