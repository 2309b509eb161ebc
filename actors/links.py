"""Links between tracks across shards: intent at home → adopted at the target → done at home, each journalled.

An unlink is the same walk back. A track that is on its way takes nothing in: requests for it wait at its old
place and are answered from there with where it went. Recovery finds unfinished intents in the tail, which no
snapshot covers before they are done.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from actors.operations import Later, Reply, Scene, error, locate, member_record
from engine.errors import KairosError
from engine.ids import partition_of
from engine.record import ADOPTED, LINK_DONE, LINK_INTENT
from engine.track import Track

if TYPE_CHECKING:
    from actors.partition import Partition
    from actors.shard import Call, SessionShard

PARKED: Final[Reply] = {"parked": True}
RETRY_S: Final = 0.1
ADOPT_TIMEOUT_S: Final = 2.0


class Links:
    """Drives the links of one shard's partitions."""

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard
        self._waiting: dict[tuple[int, str], list[Call]] = {}
        self._driven: dict[tuple[int, str], asyncio.Future[None]] = {}

    # -- inside the batch ------------------------------------------------------------------------------

    def park(self, call: Call, partition: Partition) -> bool:
        """Whether the call is about a track on its way; it then waits and comes back by itself."""
        if call.op in ("link_done", "resume_link"):
            return False
        for name in ("track", "anon"):
            track = partition.live.get(call.payload.get(name, ""))
            if track is not None and track.pending_to is not None:
                self._waiting.setdefault((partition.index, track.id), []).append(call)
                return True
        return False

    def evaluate(self, scene: Scene, call: Call) -> Reply | Later:
        """One of link, unlink, adopt, link_done, resume_link."""
        payload = call.payload
        if call.op == "link":
            return self._link(scene, payload["track"], payload["to"])
        if call.op == "unlink":
            return self._unlink(scene, payload["track"], payload["anon"])
        if call.op == "adopt":
            return _adopt(scene, payload)
        if call.op == "link_done":
            return self._finish(scene, payload)
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
        generation = 1 + (track.generation if track is not None else 0)
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
        generation = track.generation + 1
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
            partition.write([LINK_DONE, track_id, scene.now_ms, track.pending_to, track.generation])
            if root != track_id:
                partition.write(member_record(root, scene.now_ms, track_id, track.generation, False))
        partition.intents.pop(track_id, None)
        return {"done": True}

    # -- beside the batch ------------------------------------------------------------------------------

    def resume(self, partition: Partition) -> None:
        """Drive every unfinished intent of a partition just claimed; wake what waited for an earlier epoch."""
        for track_id in partition.intents:
            self._shard.spawn(self._shard.ask("resume_link", {"track": track_id}, partition.index))
        for key in [k for k in self._waiting if k[0] == partition.index]:
            self._wake(key)

    def _drive(self, partition: Partition, track: Track) -> Later:
        key, to, unlinking = (partition.index, track.id), str(track.pending_to), track.pending_to == track.id

        async def drive() -> Reply:
            running = self._driven.get(key)
            if running is None:
                running = asyncio.ensure_future(self._walk(partition, track))
                self._driven[key] = running
            try:
                await asyncio.shield(running)
            finally:
                if running.done():
                    self._driven.pop(key, None)
            return {"unlinked": True} if unlinking else {"linked": True, "root": to}

        return drive

    async def _walk(self, partition: Partition, track: Track) -> None:
        key, epoch = (partition.index, track.id), partition.epoch
        # Nothing touches a track on its way, so what is adopted is what the intent left.
        to, generation, state = str(track.pending_to), track.generation, track.snapshot()
        adopt = {"track": track.id, "root": to, "generation": generation, "snapshot": state}
        home = partition_of(to, partition.n_partitions)
        while True:
            if partition.epoch != epoch or not partition.ready:
                # Claimed again meanwhile: the recovery found the intent and drives it.
                return
            try:
                reply = await self._shard.mesh.ask_partition(home, "adopt", adopt, timeout_s=ADOPT_TIMEOUT_S)
                if reply.get("adopted"):
                    break
            except KairosError:
                pass
            await asyncio.sleep(RETRY_S)
        done = {"track": track.id, "generation": generation}
        while (await self._shard.ask("link_done", done, partition.index)).get("done") is None:
            if partition.epoch != epoch or partition.index not in self._shard.partitions:
                return
            await asyncio.sleep(RETRY_S)
        self._wake(key)

    def _wake(self, key: tuple[int, str]) -> None:
        for call in self._waiting.pop(key, ()):
            self._shard.submit(call)


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
