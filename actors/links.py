"""Links between tracks across shards: intent at home → adopted at the target → done at home, each journalled.

An unlink is the same walk back. A track that is on its way takes nothing in: requests for it wait at its old
place and are answered from there with where it went. Recovery finds unfinished intents in the tail, which no
snapshot covers before they are done.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from actors.operations import Later, Reply, Scene, error, locate, member_record, unavailable
from engine.errors import KairosError
from engine.ids import partition_of
from engine.record import ADOPTED, LINK_DONE, LINK_INTENT
from engine.track import Track

if TYPE_CHECKING:
    from actors.call import Call
    from actors.partition import Partition
    from actors.shard import SessionShard

log = logging.getLogger("kairos.shard")

PARKED: Final[Reply] = {"parked": True}
RETRY_S: Final = 0.1
ADOPT_TIMEOUT_S: Final = 2.0
MAX_WAITING: Final = 4096
"""Calls of a shard that wait for links; more are turned away."""


class Links:
    """Drives the links of one shard's partitions."""

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard
        self._waiting: dict[tuple[int, str], list[Call]] = {}
        self._n_waiting = 0
        self._driven: dict[tuple[int, int, str], asyncio.Task[bool]] = {}

    # -- inside the batch ------------------------------------------------------------------------------

    def park(self, call: Call, partition: Partition) -> bool:
        """Whether the call is about a track on its way; it then waits and comes back by itself."""
        if call.op in ("link_done", "resume_link"):
            return False
        for name in ("track", "anon"):
            track = partition.live.get(call.payload.get(name, ""))
            if track is None:
                continue
            tracks = partition.profile_tracks(track.root) if call.op == "erase" else [track]
            moving = next((t for t in tracks if t.pending_to is not None), None)
            if moving is not None:
                self._wait(call, (partition.index, moving.id))
                return True
        return False

    def _wait(self, call: Call, key: tuple[int, str]) -> None:
        if self._n_waiting >= MAX_WAITING:
            call.answer(unavailable("overloaded", "too many requests wait for links to be made"))
            return
        self._n_waiting += 1
        self._waiting.setdefault(key, []).append(call)

    def evaluate(self, scene: Scene, call: Call) -> Reply | Later:
        """One of link, unlink, adopt, link_done, resume_link, settle."""
        payload = call.payload
        if call.op == "link":
            return self._link(scene, payload["track"], payload["to"])
        if call.op == "unlink":
            return self._unlink(scene, payload["track"], payload["anon"])
        if call.op == "adopt":
            return _adopt(scene, payload)
        if call.op == "link_done":
            return self._finish(scene, payload)
        if call.op == "settle":
            # It would have been parked were anything on its way.
            return {"settled": True}
        if call.op == "resume_link":
            track = scene.partition.live.get(payload["track"])
            if track is None or track.pending_to is None:
                scene.partition.intents.pop(payload["track"], None)
                return {"resumed": False}
            return self._drive(scene.partition, track)
        return error("unknown_operation", f"a shard does not know {call.op}", 400)

    def _link(self, scene: Scene, anon: str, user: str) -> Reply | Later:
        partition = scene.partition
        track = partition.live.get(anon)
        if track is None and not partition.is_home(anon):
            return {"moved": anon}
        linked_to = None if track is None else track.moved_to or (track.root if track.root != anon else None)
        if linked_to is not None:
            return {"linked": linked_to == user, "root": linked_to}
        generation = _next_generation(track, scene.now_ms)
        if partition.is_home(user):
            partition.write([ADOPTED, anon, scene.now_ms, user, generation, None])
            partition.write(member_record(user, scene.now_ms, anon, generation, True))
            return {"linked": True, "root": user}
        partition.write([LINK_INTENT, anon, scene.now_ms, user, generation])
        return self._drive(partition, partition.live[anon])

    def _unlink(self, scene: Scene, user: str, anon: str) -> Reply | Later:
        partition = scene.partition
        found = locate(partition, user)
        if isinstance(found, dict):
            return found
        track = partition.live.get(anon)
        if track is None or track.root != user or anon == user:
            return error("not_linked", "the anonymousId is not linked to this user", 404)
        generation = _next_generation(track, scene.now_ms)
        if partition.is_home(anon):
            partition.write([ADOPTED, anon, scene.now_ms, anon, generation, None])
            partition.write(member_record(user, scene.now_ms, anon, generation, False))
            return {"unlinked": True}
        partition.write([LINK_INTENT, anon, scene.now_ms, anon, generation])
        return self._drive(partition, track)

    def _finish(self, scene: Scene, payload: dict[str, Any]) -> Reply:
        partition, track_id = scene.partition, payload["track"]
        track = partition.live.get(track_id)
        if track is not None and track.pending_to is not None and track.generation == payload["generation"]:
            root = track.root
            self._shard.treasury.leases.keep(track_id)
            partition.write([LINK_DONE, track_id, scene.now_ms, track.pending_to, track.generation])
            if root != track_id:
                partition.write(member_record(root, scene.now_ms, track_id, track.generation, False))
        partition.intents.pop(track_id, None)
        return {"done": True}

    # -- beside the batch ------------------------------------------------------------------------------

    def resume(self, partition: Partition) -> None:
        """Drive every unfinished intent of a partition just claimed; wake what waited for an earlier epoch."""
        for track_id in partition.intents:
            self._shard.spawn(self._resume(partition, track_id, partition.epoch))
        self.leave(partition.index)

    async def _resume(self, partition: Partition, track_id: str, epoch: int) -> None:
        while partition.epoch == epoch and track_id in partition.intents:
            reply = await self._shard.ask("resume_link", {"track": track_id}, partition.index)
            if "unavailable" not in reply:
                return
            await asyncio.sleep(RETRY_S)

    def leave(self, index: int) -> None:
        """Give what waits in a partition back to the inbox: it is answered as the partition now stands."""
        for key in [k for k in self._waiting if k[0] == index]:
            self._wake(key)

    def stop(self) -> None:
        """Turn away what waits: nothing will wake it any more."""
        for calls in self._waiting.values():
            for call in calls:
                call.answer(unavailable("stopping", "the shard is stopping"))
        self._waiting.clear()

    def _drive(self, partition: Partition, track: Track) -> Later:
        key = (partition.index, partition.epoch, track.id)
        to, unlinking = str(track.pending_to), track.pending_to == track.id

        async def drive() -> Reply:
            running = self._driven.get(key)
            if running is None:
                running = self._driven[key] = self._shard.spawn(self._walk(partition, track))
                running.add_done_callback(lambda _: self._driven.pop(key, None))
            if not await asyncio.shield(running):
                return unavailable("recovering", "the partition is being recovered; the link will be made")
            return {"unlinked": True} if unlinking else {"linked": True, "root": to}

        return drive

    async def _walk(self, partition: Partition, track: Track) -> bool:
        """The steps after the intent; False if the partition was claimed again meanwhile, whose recovery drives it."""
        epoch = partition.epoch
        # Nothing touches a track on its way, so what is adopted is what the intent left.
        to, generation, state = str(track.pending_to), track.generation, track.snapshot()
        adopt = {"track": track.id, "root": to, "generation": generation, "snapshot": state}
        while not await self._adopted(partition_of(to, partition.n_partitions), adopt):
            await asyncio.sleep(RETRY_S)
            if partition.epoch != epoch or not partition.ready:
                return False
        done = {"track": track.id, "generation": generation}
        while (await self._shard.ask("link_done", done, partition.index)).get("done") is None:
            if partition.epoch != epoch or partition.index not in self._shard.partitions:
                return True
            await asyncio.sleep(RETRY_S)
        self._wake((partition.index, track.id))
        return True

    async def _adopted(self, home: int, adopt: dict[str, Any]) -> bool:
        try:
            reply = await self._shard.mesh.ask_partition(home, "adopt", adopt, timeout_s=ADOPT_TIMEOUT_S)
        except KairosError:
            return False
        except Exception:
            log.exception("asking for the adoption of a track failed")
            return False
        return bool(reply.get("adopted"))

    def _wake(self, key: tuple[int, str]) -> None:
        calls = self._waiting.pop(key, [])
        self._n_waiting -= len(calls)
        for call in calls:
            self._shard.submit(call)


def _next_generation(track: Track | None, now_ms: int) -> int:
    """Above every earlier one of this track, also of those that were erased: hence not a mere count."""
    return max(now_ms, 1 + (track.generation if track is not None else 0))


def _adopt(scene: Scene, payload: dict[str, Any]) -> Reply:
    partition, track_id, root = scene.partition, payload["track"], payload["root"]
    generation = payload["generation"]
    track = partition.live.get(track_id)
    if track is not None and track.generation >= generation:
        # Here already, or gone on since: a repeated step changes nothing.
        return {"adopted": True}
    state = list(payload["snapshot"])
    partition.write([ADOPTED, track_id, scene.now_ms, root, generation, state])
    if root != track_id:
        partition.write(member_record(root, scene.now_ms, track_id, generation, True))
    return {"adopted": True}
