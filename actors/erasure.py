"""Erasure and expiry: a profile goes from memory, snapshots and journal, and from the homes its tracks came from."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Container
from typing import TYPE_CHECKING, Any, Final

import orjson

from actors.housekeeping import RECEIPT
from actors.operations import Later, Reply, Scene, error, locate
from actors.partition import Erased
from engine.errors import KairosError, Unavailable
from engine.ids import DecisionId, message_hash, partition_of
from engine.record import ERASED, FORMAT, MEMBER, Record, forgotten_mark, forgotten_record
from engine.track import Track

if TYPE_CHECKING:
    from actors.call import Call
    from actors.partition import Partition
    from actors.shard import SessionShard

log = logging.getLogger("kairos.shard")

CHUNK: Final = 500
RETRY_S, RETRY_AT_MOST_S = 0.2, 30.0
SETTLE_S, FORGET_S = 5.0, 30.0
EXPIRING: Final = frozenset({"observe", "decide", "score", "profile", "export", "link", "expire"})
"""Operations before which a profile beyond its retention goes."""


class Erasure:
    """Removes profiles of one shard's partitions.

    The tracks are gone from memory with the batch that journals their erasure. Then the homes of adopted tracks
    forget where those went, the snapshots go, and every earlier journal record that names a track (an entry is
    replaced by one without them, so that other tracks' decisions stay readable). The erasing records go last:
    until then snapshots do not cover them, so that whoever claims the partition next finds them and goes on.
    What arrives after an erasure is a new profile and is left alone. The receipt names no identity.

    Expiry of a linked profile takes the same way, without a receipt and without touching the journal, whose tail
    is younger than any retention.
    """

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    # -- inside the batch ------------------------------------------------------------------------------

    def evaluate(self, scene: Scene, call: Call) -> Reply | Later:
        """`erase` a profile by its root, or `forget` at its home where an erased track had gone."""
        partition, track_id = scene.partition, call.payload["track"]
        if call.op == "forget":
            return self._forget(scene, call.payload)
        found = locate(partition, track_id)
        if isinstance(found, dict):
            return found
        receipt = self._receipt_id(partition, found.root)
        if found.root not in partition.live:
            return self._receipt_later(partition, receipt)
        settled = call.payload.get("settled", [])
        away = [t.id for t in found.tracks if not partition.is_home(t.id) and t.id not in settled]
        if away:
            return self._settle_later(call, away)
        self._write(scene, found.root, found.tracks, expired=False)
        return self._begin_later(partition, found.root, receipt, len(found.tracks), scene.now_ms)

    def expire(self, scene: Scene, call: Call) -> Reply | Later | None:
        """Let a profile of several tracks go when all of them are beyond their retention; None where nothing is due.

        A track by itself needs no record: it expires as it is activated.
        """
        partition = scene.partition
        track = partition.live.get(call.payload.get("track", "")) if call.op in EXPIRING else None
        if track is not None and track.moved_to is None and partition.expired(track, scene.now_ms):
            tracks = partition.profile_tracks(track.root)
            kept = any(not partition.expired(t, scene.now_ms) or t.pending_to is not None for t in tracks)
            if len(tracks) > 1 and not kept:
                return self._expire_all(scene, call, track.root, tracks)
        return {"expired": 0} if call.op == "expire" else None

    def _expire_all(self, scene: Scene, call: Call, root: str, tracks: list[Track]) -> Later:
        partition = scene.partition
        self._write(scene, root, tracks, expired=True)

        async def gone() -> Reply:
            await asyncio.shield(self._shard.spawn(self._run(partition, root)))
            return {"expired": len(tracks)} if call.op == "expire" else {"moved": call.payload["track"]}

        return gone

    def _write(self, scene: Scene, root: str, tracks: list[Track], *, expired: bool) -> None:
        for track in tracks:
            homes = [list(track.homes)] if track.homes else []
            scene.partition.write([ERASED, track.id, scene.now_ms, root, track.generation, expired, *homes])
            if not expired:
                self._tell_learners(scene, track.id)

    def _tell_learners(self, scene: Scene, track_id: str) -> None:
        # The erasing record goes at the end; who has read of the track before is told by one that names nobody.
        scene.partition.note(forgotten_record(scene.now_ms, forgotten_mark(scene.key, track_id)))

    def _forget(self, scene: Scene, payload: dict[str, Any]) -> Reply | Later:
        partition, track_id, root = scene.partition, payload["track"], payload["root"]
        track = partition.live.get(track_id)
        if track is not None and track.moved_to is not None and track.generation <= payload["generation"]:
            partition.write([ERASED, track_id, scene.now_ms, root, track.generation, payload["expired"]])
            if not payload["expired"]:
                self._tell_learners(scene, track_id)
        elif track_id not in partition.erasures:
            # Forgotten before; what is here now came after.
            return {"n_records": 0}

        async def forget() -> Reply:
            return {"n_records": await self._finish(partition, root)}

        return forget

    def _receipt_id(self, partition: Partition, root: str) -> str:
        return f"e_{partition.index}_{message_hash(self._shard.key, 'erased ' + root):016x}"

    # -- beside the batch ------------------------------------------------------------------------------

    def _settle_later(self, call: Call, away: list[str]) -> Later:
        """A link still on its way would bring back what it carries: it is awaited first."""

        async def settle() -> Reply:
            for name in away:
                home = partition_of(name, self._shard.n_partitions)
                reply = await self._shard.mesh.ask_partition(home, "settle", {"track": name}, timeout_s=SETTLE_S)
                if not reply.get("settled"):
                    return reply
            settled = [*call.payload.get("settled", []), *away]
            return await self._shard.ask("erase", {**call.payload, "settled": settled}, call.partition)

        return settle

    def _begin_later(self, partition: Partition, root: str, receipt: str, n_tracks: int, now_ms: int) -> Later:
        pending = {"id": receipt, "status": "pending", "n_tracks": n_tracks, "at_ms": now_ms}

        async def begin() -> Reply:
            try:
                await self._put(partition, pending)
            finally:
                self._shard.spawn(self._run(partition, root))
            return {"receipt": pending}

        return begin

    def resume(self, partition: Partition) -> None:
        """Finish what a crash interrupted: the erasures found in the tail."""
        for root in {erased.root for erased in partition.erasures.values()}:
            self._shard.spawn(self._run(partition, root))

    async def _run(self, partition: Partition, root: str) -> None:
        epoch, wait_s = partition.epoch, RETRY_S
        while partition.ready and partition.epoch == epoch:
            try:
                await self._finish(partition, root)
            except Exception as failure:
                # Whatever it is: an erasure that is given up would never be finished.
                known = isinstance(failure, KairosError)
                log.warning("an erasure in partition %d waits: %s", partition.index, failure, exc_info=not known)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_AT_MOST_S)
            else:
                return

    async def _finish(self, partition: Partition, root: str) -> int:
        """All that is left to do for the erasures of one root; returns the number of records removed."""
        erased = {name: e for name, e in partition.erasures.items() if e.root == root}
        n_records = 0
        if partition.is_home(root):
            for name, e in erased.items():
                # Where it came from, and every place where it was linked and unlinked again.
                places = {partition_of(name, partition.n_partitions), *e.homes} - {partition.index}
                for place in sorted(places):
                    n_records += await self._forget_at(place, name, e)
        async with self._locks[partition.index]:
            left = {name: e for name, e in erased.items() if partition.erasures.get(name) is e}
            if left and not any(e.expired for e in left.values()):
                n_records += await self._remove(partition, root, left, n_records)
            for name in left:
                del partition.erasures[name]
        return n_records

    async def _forget_at(self, home: int, name: str, e: Erased) -> int:
        payload = {"track": name, "root": e.root, "generation": e.generation, "expired": e.expired}
        reply = await self._shard.mesh.ask_partition(home, "forget", payload, timeout_s=FORGET_S)
        if "n_records" in reply:
            return int(reply["n_records"])
        failure = reply.get("unavailable") or reply.get("error") or {}
        raise Unavailable(str(failure.get("code")), f"the home of a track did not forget it: {failure.get('message')}")

    async def _remove(self, partition: Partition, root: str, erased: dict[str, Erased], n_elsewhere: int) -> int:
        """Snapshots and records go, then the receipt is done, then the records of the erasure itself go."""
        await self._shard.housekeeping.save_now(partition, list(erased))
        n_records = len(erased) + await self._redact(partition, erased)
        archiver = self._shard.archiver
        if archiver is not None:
            await archiver.scrubbing.soon(partition.index)
        if partition.is_home(root):
            receipt = self._receipt_id(partition, root)
            (held,) = await self._shard.snapshots.load([(partition.index, RECEIPT + receipt)])
            if held is None or orjson.loads(held)["status"] != "done":
                at_ms = max(e.at_ms for e in erased.values())
                done = {"id": receipt, "status": "done", "n_tracks": len(erased), "at_ms": at_ms}
                await self._put(partition, {**done, "n_records": n_elsewhere + n_records})
        for e in erased.values():
            payload = await self._shard.journal.get(partition.index, (e.place.epoch, e.place.seq))
            if payload is not None:
                await self._replace(partition, payload, e.place, {e.place.index}, erased)
        if archiver is not None:
            await archiver.scrubbing.soon(partition.index)
        return n_records

    async def _redact(self, partition: Partition, erased: dict[str, Erased]) -> int:
        """Take every record of the tracks before their erasure out of archive and journal; returns how many."""
        archiver = self._shard.archiver
        if archiver is None:
            return await self._redact_tail(partition, erased)

        def unwanted(position: tuple[int, int], index: int, record: Record) -> bool:
            return _before(DecisionId(partition.index, *position, index), record, erased)

        # Under the archiver's lock nothing is on its way from the one to the other.
        async with archiver.lock(partition.index):
            removed = await archiver.redact(partition, erased, unwanted)
            return removed + await self._redact_tail(partition, erased)

    async def _redact_tail(self, partition: Partition, erased: dict[str, Erased]) -> int:
        journal, removed = self._shard.journal, 0
        after: tuple[int, int] | None = None
        while rows := await journal.read(partition.index, after, CHUNK):
            for position, payload in rows:
                places = {
                    index
                    for index, record in enumerate(orjson.loads(payload)[1:])
                    if record is not None and _before(DecisionId(partition.index, *position, index), record, erased)
                }
                if places:
                    removed += len(places)
                    await self._replace(partition, payload, DecisionId(partition.index, *position, 0), places, erased)
            after = rows[-1][0]
        return removed

    async def _replace(
        self, partition: Partition, payload: bytes, at: DecisionId, gone: set[int], erased: Container[str]
    ) -> None:
        records = enumerate(orjson.loads(payload)[1:])
        kept = [_what_stays(record, erased) if i in gone else record for i, record in records]
        rest = orjson.dumps([FORMAT, *kept]) if any(kept) else None
        await self._shard.journal.redact(partition.index, (at.epoch, at.seq), rest)

    # -- receipts --------------------------------------------------------------------------------------

    def _receipt_later(self, partition: Partition, receipt: str) -> Later:
        async def look() -> Reply:
            (held,) = await self._shard.snapshots.load([(partition.index, RECEIPT + receipt)])
            if held is None:
                return error("unknown_profile", "nothing is known of this identity", 404)
            return {"receipt": orjson.loads(held)}

        return look

    async def _put(self, partition: Partition, held: dict[str, Any]) -> None:
        await self._shard.snapshots.save(
            partition.index, {RECEIPT + held["id"]: orjson.dumps(held)}, [], partition.covered, epoch=partition.epoch
        )


def _before(place: DecisionId, record: Record, erased: dict[str, Erased]) -> bool:
    # Also what another profile has recorded of having it as a member, and of losing it again.
    found = erased.get(record[3] if record[0] == MEMBER else record[1]) or erased.get(record[1])
    return found is not None and place < found.place


def _what_stays(record: Record, erased: Container[str]) -> Record | None:
    """Nothing, or, of what another profile has recorded of a member, that something was recorded then: nobody is named.

    Without it a rebuild would have that profile untouched since an earlier time, or not at all.
    """
    if record[0] != MEMBER or record[1] in erased:
        return None
    kind, root, received_ms, _, generation, _ = record
    return [kind, root, received_ms, "", generation, False]
