"""What a shard and the control plane need of a store: Protocols, and the small values that pass through them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.errors import InvalidInput

Position = tuple[int, int]
"""Where an entry stands in its partition's journal: (epoch, seq), ordered as tuples are; the first legal is (0, 1)."""

NOBODY = -1
"""The owner of a partition that no shard owns."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry to be written at `epoch-seq` of its partition."""

    partition: int
    epoch: int
    seq: int
    payload: bytes

    @property
    def position(self) -> Position:
        return self.epoch, self.seq


@dataclass(frozen=True, slots=True)
class Appended:
    """The entry is on disk."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """Refused for its id: the journal already holds this position or a later one. Nothing was written."""

    message: str = ""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The connection was lost or timed out: the entry may or may not have been written. Ask `last()`."""

    message: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The store answered with an error of its own (out of memory, read-only, loading…). Nothing was written."""

    code: str
    message: str = ""


AppendResult = Appended | Fenced | Uncertain | Refused

APPENDED = Appended()


class Journal(Protocol):
    """One ordered stream of entries a partition; the store itself refuses ids that are not above the last one.

    Every method but `append` raises `engine.errors.Unavailable` (`store_unavailable`, `store_refused`) when the
    store cannot answer; `append` answers instead, one result an entry, in the order given.
    """

    def append(self, entries: Sequence[Entry]) -> Awaitable[list[AppendResult]]:
        """Write the entries in one round trip. They stand or fall one by one; there is no roll-back.

        Never retried inside: a repeated write would be answered as `Fenced` by itself. An implementation may send them
        before what it returns is awaited.
        """
        ...

    async def last(self, partition: int) -> Position | None:
        """The last position ever written, also when it has been trimmed away; None for a journal never written."""
        ...

    async def lasts(self, partitions: Sequence[int]) -> list[Position | None]:
        """`last` of each of these partitions, asked at once: what whoever reads several of them begins with."""
        ...

    async def first(self, partition: int) -> Position | None:
        """The oldest position still held."""
        ...

    async def read(self, partition: int, after: Position | None, limit: int) -> list[tuple[Position, bytes]]:
        """At most `limit` entries after a position (None: from the oldest held), in journal order."""
        ...

    async def read_back(self, partition: int, before: Position | None, limit: int) -> list[tuple[Position, bytes]]:
        """At most `limit` entries before a position (None: from the newest), newest first."""
        ...

    async def get(self, partition: int, position: Position) -> bytes | None:
        """The payload at exactly this position, if it is still held."""
        ...

    async def trim(self, partition: int, below: Position) -> int:
        """Forget every entry before `below`; says how many that were. The last position is not forgotten."""
        ...

    async def redact(self, partition: int, position: Position, payload: bytes | None) -> None:
        """Replace the payload of one entry for good, or forget the entry; its position stays taken.

        For erasure alone. Nothing happens where the entry is no longer held.
        """
        ...

    async def size(self, partition: int) -> tuple[int, int]:
        """(entries, bytes) held; bytes are as the store estimates them, zero only when nothing is held."""
        ...


class Snapshots(Protocol):
    """The last saved form of each track of a partition, and how much of the journal these forms cover."""

    async def load(self, keys: Sequence[tuple[int, str]]) -> list[bytes | None]:
        """The snapshots of (partition, track id) pairs, in the order asked, in one round trip."""
        ...

    async def save(
        self,
        partition: int,
        snapshots: Mapping[str, bytes],
        deleted: Collection[str],
        covered: Position,
        *,
        epoch: int,
    ) -> None:
        """Write snapshots, deletions and `covered` all at once or not at all.

        `epoch` is the writer's own: `covered` may be older than it (a takeover that has saved nothing yet).

        Raises:
            engine.errors.Fenced: the partition's journal has an entry of a newer epoch.
        """
        ...

    async def covered(self, partition: int) -> Position | None:
        """Everything up to here is in the snapshots, as of the last save."""
        ...

    def tracks(self, partition: int) -> AsyncIterator[str]:
        """Every track id that has a snapshot, in no order; what is saved or deleted meanwhile may show or not."""
        ...


Listing = list[tuple[str, dict[str, Any]]]


class Versions(Protocol):
    """Immutable named blobs (books, models) and the one pointer that says which of them are in force."""

    async def put(self, kind: str, version: str, meta: Mapping[str, Any], blob: bytes) -> None:
        """Keep a version. The same blob again changes nothing, and the first meta stays.

        Raises:
            engine.errors.Conflict: `version_exists`, another blob has this name.
        """
        ...

    async def get(self, kind: str, version: str) -> tuple[dict[str, Any], bytes] | None:
        """(meta, blob) of a version."""
        ...

    async def list(self, kind: str) -> Listing:
        """(version, meta) of all, ordered by `meta["created_ms"]` (absent: 0), then by name."""
        ...

    async def delete(self, kind: str, version: str) -> bool:
        """Forget a version that nothing points at any more; False if there is none."""
        ...

    async def world(self) -> dict[str, Any]:
        """The pointer in force: {"rev", "book", "model", …}; rev 0 and empty names before the first."""
        ...

    async def publish(self, expected_rev: int, pointer: Mapping[str, Any]) -> bool:
        """Replace the pointer if its rev still is `expected_rev`; the new rev is one higher, whatever it holds."""
        ...


@dataclass(frozen=True)
class TableState:
    """Who owns which partition, under which epoch, and where each shard listens."""

    version: int
    n_partitions: int
    owners: tuple[int, ...]
    """Shard of each partition, or NOBODY."""
    epochs: tuple[int, ...]
    """Epoch under which the owner was given each partition; 0 before the first."""
    addresses: dict[int, str] = field(default_factory=dict)
    """host:port of each shard that has announced itself."""
    incarnations: dict[int, int] = field(default_factory=dict)
    """Which life of the shard listens there; grows with every restart."""

    @classmethod
    def empty(cls, n_partitions: int) -> TableState:
        """Nobody owns anything."""
        return cls(0, n_partitions, (NOBODY,) * n_partitions, (0,) * n_partitions)

    def __post_init__(self) -> None:
        if not self.n_partitions == len(self.owners) == len(self.epochs):
            raise ValueError("owners and epochs must have one item a partition")


class Table(Protocol):
    """The partition table and the other few things that must be agreed on."""

    async def create(self, n_partitions: int) -> TableState:
        """The table of this data set, made now if there is none.

        Raises:
            engine.errors.InvalidInput: `partitions_fixed`, the data set was created with another number.
        """
        ...

    async def read(self) -> TableState:
        """The table as it stands.

        Raises:
            engine.errors.Unavailable: `no_table`, it has not been created.
        """
        ...

    async def compare_and_set(self, expected_version: int, new: TableState) -> bool:
        """Replace owners and epochs if the version still is `expected_version`; the new version is one higher.

        `new.version`, `new.addresses` and `new.incarnations` are ignored: addresses change by `announce` alone.
        """
        ...

    async def next_epoch(self) -> int:
        """A number that nobody was ever given and that is above all that were; from 1."""
        ...

    async def announce(self, shard: int, address: str, incarnation: int) -> bool:
        """Say where a shard listens; refused (False) if a later incarnation has already spoken."""
        ...

    async def secret(self, name: str) -> bytes:
        """32 random bytes under a name, made once for the data set."""
        ...


class Documents(Protocol):
    """Small mutable documents by name (runs of the trainer, rollouts), changed by compare-and-set alone."""

    async def get(self, name: str) -> tuple[int, dict[str, Any]] | None:
        """(rev, document); None where there is none."""
        ...

    async def compare_and_set(self, name: str, expected_rev: int, document: Mapping[str, Any]) -> bool:
        """Replace the document if its rev still is `expected_rev`, 0 for none; it grows by one."""
        ...

    async def list(self, prefix: str) -> list[tuple[str, int, dict[str, Any]]]:
        """(name, rev, document) of every name that begins so, ordered by name."""
        ...

    async def delete(self, name: str) -> bool:
        """Forget a document; False if there is none."""
        ...


class Scrub(Protocol):
    """How redacted bytes leave the store's memory and files, where they would stay otherwise."""

    async def note(self, partition: int) -> None:
        """Keep in the store that a partition is to be scrubbed."""
        ...

    async def noted(self, partition: int) -> bool:
        """Whether that is still to be done."""
        ...

    async def forget(self, partition: int) -> None:
        """It has been done."""
        ...

    async def scrub(self, partition: int) -> None:
        """Build a partition's stream anew without them."""
        ...

    async def rewrite(self) -> None:
        """Have the log on disk rewritten without them."""
        ...


async def no_close() -> None:
    """Nothing to close."""


@dataclass(frozen=True)
class Stores:
    """One store, as its faces."""

    journal: Journal
    snapshots: Snapshots
    versions: Versions
    table: Table
    documents: Documents
    scrub: Scrub | None = None
    close: Callable[[], Awaitable[None]] = no_close


def partitions_fixed(held: int, asked: int) -> InvalidInput:
    """The error of a data set that is opened with another number of partitions than it was made with."""
    return InvalidInput(
        "partitions_fixed",
        f"this data set was created with {held} partitions and cannot be opened with {asked}; "
        f"ask for {held}, or replay the archive into a new data set",
    )


def in_order(listing: Listing) -> Listing:
    """Versions as they came to be: by `created_ms`, then by name."""
    return sorted(listing, key=lambda item: (item[1].get("created_ms", 0), item[0]))
