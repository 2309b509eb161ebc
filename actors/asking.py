"""Asking whoever holds a track: the Protocol, its errors, and how an answer of "moved" is followed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from actors.begun import Begun
from engine.errors import Unavailable
from engine.ids import partition_of

Reply = dict[str, Any]

Together = tuple[str, int, dict[str, Any]]
"""One of many requests: its track, the place of what it shares with others, and its own part of the payload."""

MAX_HOPS: Final = 8
FIRST_PAUSE_S: Final = 0.005


class ShardUnavailable(Unavailable):
    """`shard_unavailable`: the shard could not be reached in time; a decide may or may not have been recorded."""


class DeadlineExceeded(Unavailable):
    """`deadline_exceeded`: the request was sent and not answered in time."""


class Asks(Protocol):
    """How ingress and shards ask the shard that holds a track."""

    async def ask(self, track_id: str, op: str, payload: dict[str, Any], *, timeout_s: float) -> Reply:
        """The reply of the shard that holds this track, wherever it has moved.

        Raises:
            ShardUnavailable, DeadlineExceeded: as their names say.
        """
        ...

    def begin(self, track_id: str, op: str, payload: dict[str, Any]) -> Begun | None:
        """Send at once to where the track is believed to be, for a caller that keeps the time itself.

        The answer is raw, and may be "moved", "not mine" or "recovering": then, as where nothing could be sent and
        this is None, `ask` is the patient way.
        """
        ...

    def begin_together(
        self, op: str, shared: Sequence[dict[str, Any]], asked: Sequence[Together]
    ) -> tuple[list[tuple[Begun, list[int]]], list[int]]:
        """Send many at once, one frame to a shard.

        Returns what was sent, each with the places of what is in it, and the places of what was not. An answer is
        `{"answers": […]}` in that order, of answers as `begin` has them; what has to wait says "recovering".
        """
        ...

    async def ask_partition(self, partition: int, op: str, payload: dict[str, Any], *, timeout_s: float) -> Reply:
        """The reply of the shard that owns this partition; raises as `ask` does."""
        ...


class Hints:
    """Where tracks have been seen to have moved; the least recently used are forgotten."""

    def __init__(self, max_hints: int = 100_000) -> None:
        self._max = max_hints
        self._moved: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._moved)

    def at(self, track_id: str) -> str:
        """The track whose home to ask first."""
        if track_id not in self._moved:
            return track_id
        self._moved.move_to_end(track_id)
        return self._moved[track_id]

    def learn(self, track_id: str, at: str) -> None:
        """Remember where it was found; at its own home there is nothing to remember."""
        self._moved.pop(track_id, None)
        if at != track_id:
            self._moved[track_id] = at
            if len(self._moved) > self._max:
                self._moved.popitem(last=False)

    def forget(self, track_id: str) -> None:
        """Ask at its own home next time."""
        self._moved.pop(track_id, None)


async def follow(
    asks: Asks, hints: Hints, n_partitions: int, track_id: str, op: str, payload: dict[str, Any], timeout_s: float
) -> Reply:
    """Ask at the home of a track, and on wherever "moved" points.

    While a link is being made or undone two homes can point at each other: each step back to a place that was already
    asked waits a little longer, up to `MAX_HOPS` or the end of the time.
    """
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + timeout_s
    at, pause_s = hints.at(track_id), FIRST_PAUSE_S
    asked: set[str] = set()
    for _ in range(MAX_HOPS):
        asked.add(at)
        reply = await asks.ask_partition(
            partition_of(at, n_partitions), op, payload, timeout_s=max(0.0, give_up_s - loop.time())
        )
        moved = reply.get("moved")
        if moved is None:
            hints.learn(track_id, at)
            return reply
        hints.forget(track_id)
        at = str(moved)
        if at in asked:
            if loop.time() + pause_s >= give_up_s:
                break
            await asyncio.sleep(pause_s)
            pause_s *= 2
    raise ShardUnavailable("shard_unavailable", f"{op}: the shards point at each other for this track")


class Shard(Protocol):
    """What the in-process twin of the router asks."""

    async def ask(self, op: str, payload: dict[str, Any], partition: int) -> Reply: ...


class LocalRouter:
    """The router of tests: shards in this process, partition p at shard `p % len(shards)`.

    Requests and replies pass through JSON as they do on the wire, so that nothing is shared by reference.
    """

    def __init__(self, shards: Sequence[Shard] | Mapping[int, Shard], n_partitions: int) -> None:
        self.shards, self.n_partitions = shards, n_partitions
        self.hints = Hints()

    async def ask(self, track_id: str, op: str, payload: dict[str, Any], *, timeout_s: float) -> Reply:
        return await follow(self, self.hints, self.n_partitions, track_id, op, payload, timeout_s)

    def begin(self, track_id: str, op: str, payload: dict[str, Any]) -> Begun | None:  # noqa: ARG002 (no streams here)
        return None

    def begin_together(
        self,
        op: str,  # noqa: ARG002
        shared: Sequence[dict[str, Any]],  # noqa: ARG002
        asked: Sequence[Together],
    ) -> tuple[list[tuple[Begun, list[int]]], list[int]]:
        return [], list(range(len(asked)))

    async def ask_partition(self, partition: int, op: str, payload: dict[str, Any], *, timeout_s: float) -> Reply:
        shard = self.shards[partition % len(self.shards)]
        sent = orjson.loads(orjson.dumps(payload))
        try:
            reply = await asyncio.wait_for(shard.ask(op, sent, partition), timeout_s)
        except TimeoutError:
            raise DeadlineExceeded("deadline_exceeded", f"{op} was not answered in {timeout_s:.3f} s") from None
        found: Reply = orjson.loads(orjson.dumps(reply))
        return found
