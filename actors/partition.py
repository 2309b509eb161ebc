"""One partition in a shard: its epoch, its live tracks, the tail not yet applied, and what awaits a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import orjson

from actors.snapshot_form import packed, restored
from actors.stores import Appended, AppendResult, Entry, Fenced, Journal, Position, Refused, Snapshots
from actors.tail import Tail
from engine import errors
from engine.ids import DecisionId, partition_of
from engine.record import ERASED, FORMAT, LINK_DONE, LINK_INTENT, Record, fold
from engine.track import Track

READ_CHUNK: Final = 500
RETENTION_MS: Final = 400 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Erased:
    """An erasing record whose work beside the journal is not done: where it stands, and what it says."""

    place: DecisionId
    at_ms: int
    root: str
    generation: int
    expired: bool
    homes: tuple[int, ...] = ()
    """Other partitions that hold records of the track."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An entry that has been built, and the tracks it touches."""

    partition: Partition
    entry: Entry
    touched: frozenset[str]


@dataclass(slots=True)
class Partition:
    """The state of one partition under one epoch; only its shard's loop touches it."""

    index: int
    n_partitions: int
    epoch: int = 0
    seq: int = 0
    """Of the last entry known to be in the journal."""
    sealed_seq: int = 0
    """Of the last entry built; it may be on its way."""
    ready: bool = False
    live: dict[str, Track] = field(default_factory=dict)
    used_ms: dict[str, int] = field(default_factory=dict)
    tail: Tail = field(init=False)
    dirty: dict[str, Position] = field(default_factory=dict)
    covered: Position = (0, 0)
    pending: list[Record] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    intents: dict[str, Position] = field(default_factory=dict)
    erasures: dict[str, Erased] = field(default_factory=dict)
    expire_after_ms: int = RETENTION_MS
    claiming: bool = False
    n_written: int = 0
    """Bytes of all entries built so far."""
    n_saved: int = 0
    """How many of them the snapshots include; negative by what was in the tail when it was claimed."""
    due_ms: int = 0
    """When the next round of snapshots begins at the latest."""
    not_before_ms: int = 0
    """When it may begin at the earliest, the last one having failed."""

    def __post_init__(self) -> None:
        self.tail = Tail(self.index)

    @property
    def position(self) -> Position:
        """The last entry known to be in the journal."""
        return self.epoch, self.seq

    def is_home(self, track_id: str) -> bool:
        """Whether this partition is the home of the identity."""
        return partition_of(track_id, self.n_partitions) == self.index

    # -- becoming the owner ----------------------------------------------------------------------------

    async def claim(self, epoch: int, journal: Journal, snapshots: Snapshots) -> None:
        """Fence earlier writers by writing `epoch-0`, then read the tail that no snapshot covers.

        Raises:
            engine.errors.Fenced: a newer epoch owns the partition already.
            engine.errors.Unavailable: the store did not take the claim.
        """
        self.ready = False
        for result in await journal.append([Entry(self.index, epoch, 0, orjson.dumps([FORMAT]))]):
            raise_for(result)
        self.epoch, self.seq, self.sealed_seq = epoch, 0, 0
        self.forget_all()
        self.covered = await snapshots.covered(self.index) or (0, 0)
        after: Position | None = self.covered
        while rows := await journal.read(self.index, after, READ_CHUNK):
            for position, payload in rows:
                for decision_id, record in self.tail.add(position, payload):
                    self._note_unfinished(record, decision_id)
            after = rows[-1][0]
        self.n_saved = self.n_written - self.tail.n_bytes
        self.ready = True

    def forget_all(self) -> None:
        """Drop everything held in memory; the store is the truth."""
        for held in (self.live, self.used_ms, self.tail, self.dirty, self.pending, self.touched):
            held.clear()
        self.intents.clear()
        self.erasures.clear()

    def _note_unfinished(self, record: Record, place: DecisionId) -> None:
        kind, track_id = record[0], record[1]
        if kind == LINK_INTENT:
            self.intents[track_id] = (place.epoch, place.seq)
        elif kind in (LINK_DONE, ERASED):
            self.intents.pop(track_id, None)
        if kind == ERASED:
            root, generation, expired, *homes = record[3:] if len(record) > 3 else (track_id, 0, False)
            self.erasures[track_id] = Erased(place, record[2], root, generation, expired, tuple(*homes))

    def coverable(self) -> Position:
        """How far snapshots may cover the journal: to its end, but not past an unfinished link or erasure."""
        links = [(epoch, seq - 1) for epoch, seq in self.intents.values()]
        erasures = [(e.place.epoch, e.place.seq - 1) for e in self.erasures.values()]
        return min([self.position, *links, *erasures])

    # -- tracks ----------------------------------------------------------------------------------------

    def missing(self, wanted: Iterable[str]) -> list[str]:
        """Those of the tracks, and of the profiles they belong to, that are not in memory yet."""
        found: dict[str, None] = {}
        for track_id in wanted:
            if track_id not in self.used_ms:
                found[track_id] = None
                continue
            track = self.live.get(track_id)
            root = track_id if track is None else track.root
            if root not in self.used_ms:
                found[root] = None
                continue
            root_track = self.live.get(root)
            for member in root_track.members if root_track is not None else ():
                if member not in self.used_ms:
                    found[member] = None
        return list(found)

    def activate(self, track_id: str, snapshot: bytes | None, now_ms: int) -> None:
        """Bring a track into memory from its snapshot and the tail.

        Raises:
            DamagedSnapshot: nothing has changed.
        """
        track: Track | None = None
        at: Position = (0, 0)
        if snapshot is not None:
            track, at = restored(snapshot)
        for decision_id, record in self.tail.take(track_id):
            place = (decision_id.epoch, decision_id.seq)
            if place > at:
                track = self.folded(track, record, decision_id)
                self.dirty[track_id] = max(self.dirty.get(track_id, (0, 0)), place)
        if track is not None and self._alone_and_expired(track, now_ms):
            track = None
            self.dirty[track_id] = self.position
        if track is not None:
            self.live[track_id] = track
        self.used_ms[track_id] = now_ms

    def folded(self, track: Track | None, record: Record, decision_id: DecisionId) -> Track | None:
        """A track after one more record."""
        # A rebuild comes to the same: what had expired when a record was received is no part of what follows.
        if track is not None and self._alone_and_expired(track, record[2]):
            track = None
        return fold(track, record, decision_id)

    def expired(self, track: Track, now_ms: int) -> bool:
        """Whether nothing has happened on a track for longer than it is kept."""
        return track.touched_ms < now_ms - self.expire_after_ms

    def _alone_and_expired(self, track: Track, now_ms: int) -> bool:
        # Several tracks of one profile expire together, and by a record in the journal.
        return (
            self.expired(track, now_ms)
            and track.root == track.id
            and not track.members
            and track.moved_to is None
            and track.pending_to is None
        )

    def profile_tracks(self, root: str) -> list[Track]:
        """The tracks of a profile in memory; a fresh root where nothing is known."""
        root_track = self.live.get(root)
        if root_track is None:
            return [Track.fresh(root)]
        return [root_track, *(self.live[m] for m in root_track.members if m in self.live)]

    # -- writing ---------------------------------------------------------------------------------------

    def write(self, record: Record) -> DecisionId:
        """Apply a record and put it into the entry being built; returns its place in the journal.

        Raises:
            LookupError: the track is not in memory, so that what is known of it would be overwritten.
        """
        if record[1] not in self.used_ms:
            raise LookupError(f"a record for {record[1]}, which was not activated")
        decision_id = self.next_place()
        self.pending.append(record)
        self._note_unfinished(record, decision_id)
        track_id = record[1]
        track = self.folded(self.live.get(track_id), record, decision_id)
        if track is None:
            self.live.pop(track_id, None)
        else:
            self.live[track_id] = track
        self.touched.add(track_id)
        return decision_id

    def note(self, record: Record) -> None:
        """Put a record that is about no track into the entry being built."""
        self.pending.append(record)

    def next_place(self) -> DecisionId:
        """Where the next record will stand in the journal."""
        return DecisionId(self.index, self.epoch, self.sealed_seq + 1, len(self.pending))

    def seal(self) -> Sealed:
        """The entry of what was written since the last one."""
        payload = orjson.dumps([FORMAT, *self.pending])
        self.sealed_seq += 1
        self.n_written += len(payload)
        sealed = Sealed(self, Entry(self.index, self.epoch, self.sealed_seq, payload), frozenset(self.touched))
        self.touched.clear()
        self.pending.clear()
        return sealed

    def appended(self, sealed: Sealed) -> None:
        """An entry is in the journal; of an earlier epoch, it is read with the tail."""
        if sealed.entry.epoch != self.epoch:
            return
        self.seq = sealed.entry.seq
        for track_id in sealed.touched:
            self.dirty[track_id] = self.position

    # -- snapshots -------------------------------------------------------------------------------------

    def snapshots_of(self, track_ids: Iterable[str]) -> tuple[dict[str, bytes], list[str]]:
        """Snapshots of tracks as they are, labelled with the position they include, and those with nothing left."""
        return packed({track_id: self.live.get(track_id) for track_id in track_ids}, self.position)

    def saved(self, track_ids: Iterable[str], at: Position) -> None:
        """Snapshots taken at `at` are in the store."""
        for track_id in track_ids:
            if self.dirty.get(track_id, at) <= at:
                self.dirty.pop(track_id, None)

    def passivate(self, idle_before_ms: int) -> int:
        """Drop clean tracks unused since then; returns how many."""
        idle = [t for t, used in self.used_ms.items() if used < idle_before_ms and t not in self.dirty]
        for track_id in idle:
            self.live.pop(track_id, None)
            del self.used_ms[track_id]
        return len(idle)


def raise_for(result: AppendResult) -> None:
    """Nothing for an entry that is on disk.

    Raises:
        engine.errors.Fenced: a newer epoch has written.
        engine.errors.Unavailable: it was not, or may not have been, written.
    """
    if isinstance(result, Appended):
        return
    if isinstance(result, Fenced):
        raise errors.Fenced("fenced", result.message)
    code = "store_refused" if isinstance(result, Refused) else "store_uncertain"
    raise errors.Unavailable(code, result.message)
