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
from engine.ids import EMAIL, USER, partition_of, rank
from engine.record import ADOPTED, CLAIM, LINK_DONE, LINK_INTENT, claim_of, claimed, segments_record
from engine.track import Track
from engine.track_form import HOMES

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
        if call.op in ("link_done", "resume_link", "link_here"):
            return False
        for name in ("track", "anon", "to", "root"):
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
        call.put_off()
        if call.answered:
            return
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
        if call.op == "link_here":
            return self._settle_here(scene, payload["track"], payload["to"])
        if call.op == "known":
            return {"known": payload["track"] in scene.partition.live}
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

    def _link(self, scene: Scene, named: str, to: str) -> Reply | Later:
        """Join the profile of `named` to that of `to`; the more personal of the two roots is the root of both.

        Where this is the side that stays, or the other has moved on, the reply is `instead`: whom to link to whom.
        """
        partition = scene.partition
        track = partition.live.get(named)
        if track is None and not partition.is_home(named):
            return {"moved": named}
        if track is not None and track.moved_to is not None:
            return {"linked": True, "root": to} if track.moved_to == to else {"moved": track.moved_to}
        root = named if track is None else track.root
        if root == to:
            return {"linked": True, "root": to}
        if rank(root) > rank(to):
            return {"instead": [to, root]}
        refusal = self._refusal(track, root, to)
        if refusal is not None:
            if rank(to) == rank(USER) and track is not None and claimed(track.claims, claim_of(to)) != track.claims:
                partition.write([CLAIM, named, scene.now_ms, claim_of(to)])
            return {"linked": False, "root": root, "refused": refusal}
        other = partition.live.get(to)
        if other is not None and (other.moved_to is not None or other.root != to):
            return {"instead": [named, other.moved_to or other.root]}
        here = partition.is_home(to)
        moving = [Track.fresh(root)] if root not in partition.live else partition.profile_tracks(root)
        later = [self._move(scene, t, to, here) for t in moving]
        if here:
            return {"linked": True, "root": to}
        return _all_of([work for work in later if work is not None])

    def _move(self, scene: Scene, track: Track, to: str, here: bool) -> Later | None:
        """Begin to move one track under another root; None where that is in this partition, and done."""
        partition = scene.partition
        generation = _next_generation(track, scene.now_ms)
        if here:
            partition.write([ADOPTED, track.id, scene.now_ms, to, generation, None])
            partition.write(member_record(to, scene.now_ms, track.id, generation, True))
            return None
        partition.write([LINK_INTENT, track.id, scene.now_ms, to, generation])
        return self._drive(partition, partition.live[track.id])

    def _refusal(self, track: Track | None, root: str, to: str) -> Reply | None:
        """Why these two are not joined, if they are not: two known persons, or a device of too many."""
        claims = [] if track is None else track.claims
        if rank(to) == rank(USER) and track is not None and rank(track.id) < rank(EMAIL):
            claims = claimed(claims, claim_of(to))
        if len(claims) > self._shard.settings.max_users_per_device:
            return {
                "code": "shared_device",
                "message": "so many users have used it that it is linked to no other any more",
            }
        if rank(root) == rank(to):
            return {"code": "linked_elsewhere", "message": "it is linked to another, and two known ones are not merged"}
        return None

    def _unlink(self, scene: Scene, user: str, anon: str) -> Reply | Later:
        partition = scene.partition
        found = locate(partition, user)
        if isinstance(found, dict):
            return found
        track = partition.live.get(anon)
        if track is None or track.root != user or anon == user:
            return error("not_linked", "this identity is not linked to this user", 404)
        self._leave_segments(scene, user, anon)
        generation = _next_generation(track, scene.now_ms)
        if partition.is_home(anon):
            partition.write([ADOPTED, anon, scene.now_ms, anon, generation, None])
            partition.write(member_record(user, scene.now_ms, anon, generation, False))
            return {"unlinked": True}
        partition.write([LINK_INTENT, anon, scene.now_ms, anon, generation])
        return self._drive(partition, track)

    def _settle_here(self, scene: Scene, track_id: str, to: str) -> Reply:
        """End a move whose target turned out to be in this partition."""
        partition = scene.partition
        track, head = partition.live.get(track_id), partition.live.get(to)
        if track is None or track.pending_to is None:
            return {"done": True}
        if head is not None and head.pending_to is not None:
            return {"waits": True}
        if head is not None and (head.moved_to is not None or head.root != to):
            return {"moved": head.moved_to or head.root}
        before, generation = track.root, track.generation
        partition.write([ADOPTED, track_id, scene.now_ms, to, generation, None])
        partition.write(member_record(to, scene.now_ms, track_id, generation, True))
        if before != track_id:
            partition.write(member_record(before, scene.now_ms, track_id, generation, False))
        partition.intents.pop(track_id, None)
        return {"done": True}

    def _leave_segments(self, scene: Scene, user: str, anon: str) -> None:
        """What the user was found to be since the link may have been the other's doing; the next signal looks again."""
        root = scene.partition.live[user]
        linked_ms = root.members.get(anon, scene.now_ms)
        kept = {name: since for name, since in root.memberships.items() if since[0] < linked_ms}
        if len(kept) < len(root.memberships):
            scene.partition.write(segments_record(user, scene.now_ms, kept))

    def _finish(self, scene: Scene, payload: dict[str, Any]) -> Reply:
        partition, track_id = scene.partition, payload["track"]
        track = partition.live.get(track_id)
        if track is not None and track.pending_to is not None and track.generation == payload["generation"]:
            root = track.root
            self._shard.treasury.leases.keep(track_id)
            to = payload.get("to") or track.pending_to
            partition.write([LINK_DONE, track_id, scene.now_ms, to, track.generation])
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
        state[HOMES] = sorted({*track.homes, partition.index})
        while True:
            if partition_of(to, partition.n_partitions) == partition.index:
                # The root has come to live where this track sets out from: there is nothing to send.
                reply = await self._shard.ask("link_here", {"track": track.id, "to": to}, partition.index)
                if reply.get("done"):
                    self._wake((partition.index, track.id))
                    return True
                if "moved" in reply:
                    to = str(reply["moved"])
                    continue
                await asyncio.sleep(RETRY_S)
                if partition.epoch != epoch or not partition.ready:
                    return False
                continue
            adopt = {"track": track.id, "root": to, "generation": generation, "snapshot": state}
            found = await self._adopted(partition_of(to, partition.n_partitions), adopt)
            if found is True:
                break
            if isinstance(found, str):
                # The root has itself been linked since: on to where it is now.
                to = found
                continue
            await asyncio.sleep(RETRY_S)
            if partition.epoch != epoch or not partition.ready:
                return False
        done = {"track": track.id, "generation": generation, "to": to}
        while (await self._shard.ask("link_done", done, partition.index)).get("done") is None:
            if partition.epoch != epoch or partition.index not in self._shard.partitions:
                return True
            await asyncio.sleep(RETRY_S)
        self._wake((partition.index, track.id))
        return True

    async def _adopted(self, home: int, adopt: dict[str, Any]) -> str | bool | None:
        """True once it is adopted, the root to ask instead, or None where there was no answer."""
        try:
            reply = await self._shard.mesh.ask_partition(home, "adopt", adopt, timeout_s=ADOPT_TIMEOUT_S)
        except KairosError:
            return None
        except Exception:
            log.exception("asking for the adoption of a track failed")
            return None
        if "moved" in reply:
            return str(reply["moved"])
        return True if reply.get("adopted") else None

    def _wake(self, key: tuple[int, str]) -> None:
        calls = self._waiting.pop(key, [])
        self._n_waiting -= len(calls)
        for call in calls:
            self._shard.submit(call)


def _all_of(works: list[Later]) -> Later:
    """Several moves as one: its reply is the first that did not come to its end, else the first."""

    async def together() -> Reply:
        replies = await asyncio.gather(*(work() for work in works))
        return next((reply for reply in replies if "unavailable" in reply), replies[0])

    return together


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
    if root != track_id:
        head = partition.live.get(root)
        if head is not None and (head.moved_to is not None or head.root != root):
            return {"moved": head.moved_to or head.root}
    state = list(payload["snapshot"])
    partition.write([ADOPTED, track_id, scene.now_ms, root, generation, state])
    if root != track_id:
        partition.write(member_record(root, scene.now_ms, track_id, generation, True))
    return {"adopted": True}
