"""The router: from a track or partition to the shard that has it now, over one persistent stream to each shard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol
from weakref import WeakSet

import orjson

from actors.asking import Asks, DeadlineExceeded, Hints, LocalRouter, Reply, ShardUnavailable, Together, follow
from actors.begun import Begun
from actors.bundle import Part, bundled
from actors.ending import ended
from actors.stores import Table, TableState
from actors.stream_client import DEADLINE_EXCEEDED, NOT_CONNECTED, OVERLOADED, StreamClient
from engine.errors import KairosError, Unavailable
from engine.ids import partition_of

__all__ = ["Asks", "DeadlineExceeded", "LocalRouter", "Router", "ShardUnavailable"]

REFRESH_EVERY_S: Final = 0.05
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.1
PASSING: Final = frozenset({"recovering"})
"""Codes with which a shard says that nothing was done and that it will be well in a moment."""


class Stream(Protocol):
    """What the router needs of a `StreamClient`."""

    async def request(self, payload: bytes, timeout_s: float) -> bytes: ...

    def begin(self, payload: bytes) -> Begun | None: ...

    def retire(self) -> None: ...

    async def close(self) -> None: ...


class Router:
    """Knows the table, keeps the streams, follows what moves. Belongs to one event loop; opens nothing by itself.

    Within the caller's time it asks again after "not mine", "recovering" and lost connections, since every operation
    is repeatable by its ids. A decide without `request_id` is not: it is sent again only if it was never sent.
    """

    def __init__(
        self,
        table: Table,
        *,
        dial: Callable[[str, bytes], Stream] = StreamClient,
        refresh_every_s: float = REFRESH_EVERY_S,
        max_hints: int = 100_000,
    ) -> None:
        self._table, self._dial, self._refresh_every_s = table, dial, refresh_every_s
        self.hints = Hints(max_hints)
        self._state: TableState | None = None
        self._secret = b""
        self._streams: dict[str, Stream] = {}
        self._retired: WeakSet[Stream] = WeakSet()
        self._refreshing: asyncio.Task[None] | None = None
        self._next_refresh_s = 0.0
        self.n_refreshes = 0

    async def ask(self, track_id: str, op: str, payload: dict[str, Any], *, timeout_s: float) -> Reply:
        """See `Asks.ask`."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + timeout_s
        state = self._state or await self._first_state(give_up_s)
        left_s = give_up_s - loop.time()
        return await follow(self, self.hints, state.n_partitions, track_id, op, payload, left_s)

    def begin(self, track_id: str, op: str, payload: dict[str, Any]) -> Begun | None:
        """See `Asks.begin`."""
        state = self._state
        if state is None:
            return None
        partition = partition_of(self.hints.at(track_id), state.n_partitions)
        stream = self._connected(state, partition)
        return None if stream is None else stream.begin(orjson.dumps([op, payload, partition]))

    def begin_together(
        self, op: str, shared: Sequence[dict[str, Any]], asked: Sequence[Together]
    ) -> tuple[list[tuple[Begun, list[int]]], list[int]]:
        """See `Asks.begin_together`."""
        state = self._state
        if state is None:
            return [], list(range(len(asked)))
        left: list[int] = []
        frames: dict[Stream, tuple[list[int], list[Part]]] = {}
        for place, (track_id, common, own) in enumerate(asked):
            partition = partition_of(self.hints.at(track_id), state.n_partitions)
            stream = self._connected(state, partition)
            if stream is None:
                left.append(place)
                continue
            places, parts = frames.setdefault(stream, ([], []))
            places.append(place)
            parts.append((partition, common, own))
        sent: list[tuple[Begun, list[int]]] = []
        for stream, (places, parts) in frames.items():
            begun = stream.begin(bundled(op, shared, parts))
            if begun is None:
                left += places
            else:
                sent.append((begun, places))
        return sent, left

    def _connected(self, state: TableState, partition: int) -> Stream | None:
        """The stream to the shard that owns a partition, where there is one already."""
        return self._streams.get(state.addresses.get(state.owners[partition], ""))

    async def ask_partition(self, partition: int, op: str, payload: dict[str, Any], *, timeout_s: float) -> Reply:
        """See `Asks.ask_partition`."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + timeout_s
        frame = orjson.dumps([op, payload, partition])
        repeatable = op != "decide" or bool(payload.get("request_id"))
        pause_s = FIRST_PAUSE_S
        while True:
            state = self._state or await self._first_state(give_up_s)
            reply, trouble = await self._try(state, partition, frame, repeatable, give_up_s - loop.time())
            if reply is not None and not trouble:
                return reply
            if loop.time() + pause_s >= give_up_s:
                if reply is not None and "not_mine" not in reply:
                    return reply
                raise ShardUnavailable("shard_unavailable", f"{op}: partition {partition}: {trouble}")
            if reply is None or "not_mine" in reply:
                await self._newer_than(state, give_up_s)
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _try(
        self, state: TableState, partition: int, frame: bytes, repeatable: bool, left_s: float
    ) -> tuple[Reply | None, str]:
        """(reply, what is wrong): wrong and worth another try, or an error that is not."""
        address = state.addresses.get(state.owners[partition])
        if address is None:
            return None, "no shard owns it, or its shard has not announced itself"
        try:
            found: Reply = orjson.loads(await self._stream(address).request(frame, left_s))
        except Unavailable as error:
            if error.code == DEADLINE_EXCEEDED:
                self._look_again()
                raise DeadlineExceeded("deadline_exceeded", error.message) from None
            if error.code == OVERLOADED or not (repeatable or error.code == NOT_CONNECTED):
                self._look_again()
                raise ShardUnavailable("shard_unavailable", error.message) from None
            return None, error.message
        if "not_mine" in found:
            return found, f"{address} says that it is not its own"
        return found, "recovering" if found.get("unavailable", {}).get("code") in PASSING else ""

    def _stream(self, address: str) -> Stream:
        stream = self._streams.get(address)
        if stream is None:
            stream = self._streams[address] = self._dial(address, self._secret)
        return stream

    async def _first_state(self, give_up_s: float) -> TableState:
        loop = asyncio.get_running_loop()
        while self._state is None:
            await self._newer_than(None, give_up_s)
            if self._state is None and loop.time() + self._refresh_every_s >= give_up_s:
                raise ShardUnavailable("shard_unavailable", "the partition table cannot be read")
        return self._state

    async def _newer_than(self, seen: TableState | None, give_up_s: float) -> None:
        """Have the table read again, together with everybody who wants that now, unless it has been since."""
        if self._state is seen:
            left_s = give_up_s - asyncio.get_running_loop().time()
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._look_again()), max(0.0, left_s))

    def _look_again(self) -> asyncio.Task[None]:
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        return self._refreshing

    async def _refresh(self) -> None:
        """One reading of the table, not sooner after the last than `refresh_every_s`; a failed one changes nothing."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(max(0.0, self._next_refresh_s - loop.time()))
            self._next_refresh_s = loop.time() + self._refresh_every_s
            self.n_refreshes += 1
            self._secret = self._secret or await self._table.secret("stream")
            self._state = await self._table.read()
        except KairosError:
            return
        finally:
            self._refreshing = None
        current = set(self._state.addresses.values())
        for address in self._streams.keys() - current:
            retired = self._streams.pop(address)
            self._retired.add(retired)
            retired.retire()

    async def close(self) -> None:
        """End every stream; what is in flight fails."""
        await ended(self._refreshing)
        for stream in [*self._streams.values(), *self._retired]:
            await stream.close()
        self._streams.clear()
