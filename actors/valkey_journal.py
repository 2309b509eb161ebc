"""The journal in Valkey: one stream a partition, whose explicit ids fence off earlier epochs without a script."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from actors.append_line import AppendLine, refusal
from actors.stores import APPENDED, AppendResult, Entry, Position, Uncertain
from actors.valkey_client import LOST, answering, from_id, journal_key, to_id

FIELD = b"b"
NEVER: Position = (0, 0)


class ValkeyJournal:
    """XADD with the id `epoch-seq`; the server refuses what is not above the stream's last id, trimmed or not.

    Appends go over the line of their own where there is one, else through redis-py.
    """

    def __init__(self, client: Redis, line: AppendLine | None = None) -> None:
        self._client, self._line = client, line

    def append(self, entries: Sequence[Entry]) -> Awaitable[list[AppendResult]]:
        return self._line.append(entries) if self._line is not None and entries else self._append(entries)

    async def _append(self, entries: Sequence[Entry]) -> list[AppendResult]:
        if not entries:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for entry in entries:
            pipeline.execute_command("XADD", journal_key(entry.partition), to_id(entry.position), FIELD, entry.payload)
        try:
            replies = await pipeline.execute(raise_on_error=False)
        except LOST as error:
            return [Uncertain(str(error))] * len(entries)
        except RedisError as error:
            return [Uncertain(f"unexpected: {error}")] * len(entries)
        return [_result(reply) for reply in replies]

    async def last(self, partition: int) -> Position | None:
        return (await self.lasts([partition]))[0]

    async def lasts(self, partitions: Sequence[int]) -> list[Position | None]:
        pipeline = self._client.pipeline(transaction=False)
        for partition in partitions:
            pipeline.xinfo_stream(journal_key(partition))
        with answering():
            return [_last_of(reply) for reply in await pipeline.execute(raise_on_error=False)]

    async def first(self, partition: int) -> Position | None:
        held = await self.read(partition, None, 1)
        return held[0][0] if held else None

    async def read(self, partition: int, after: Position | None, limit: int) -> list[tuple[Position, bytes]]:
        return await self._between(partition, after, None, limit)

    async def read_back(self, partition: int, before: Position | None, limit: int) -> list[tuple[Position, bytes]]:
        return await self._between(partition, None, before, limit, newest_first=True)

    async def _between(
        self, partition: int, above: Position | None, below: Position | None, limit: int, *, newest_first: bool = False
    ) -> list[tuple[Position, bytes]]:
        """Entries between two positions, redacted ones from beside the stream among them."""
        key, low, high = journal_key(partition), _beyond(above, "-"), _beyond(below, "+")
        pipeline = self._client.pipeline(transaction=True)
        if newest_first:
            pipeline.xrevrange(key, high, low, count=limit)
        else:
            pipeline.xrange(key, low, high, count=limit)
        pipeline.hkeys(_redacted_key(partition))
        with answering():
            found, redacted = await pipeline.execute()
        entries = [(from_id(entry_id), fields[FIELD]) for entry_id, fields in found]
        if redacted:
            if len(entries) == limit:
                above, below = (entries[-1][0], below) if newest_first else (above, entries[-1][0])
            inside = [at for at in map(from_id, redacted) if (above or NEVER) < at and (below is None or at < below)]
            entries = sorted(entries + await self._redacted(partition, inside), reverse=newest_first)[:limit]
        return entries

    async def get(self, partition: int, position: Position) -> bytes | None:
        at = to_id(position)
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xrange(journal_key(partition), at, at, count=1)
        pipeline.hget(_redacted_key(partition), at)
        with answering():
            found, redacted = await pipeline.execute()
        payload: bytes | None = found[0][1][FIELD] if found else redacted
        return payload

    async def _redacted(self, partition: int, positions: list[Position]) -> list[tuple[Position, bytes]]:
        if not positions:
            return []
        with answering():
            held: list[Any] = await self._client.hmget(_redacted_key(partition), [to_id(at) for at in positions])
        return [(at, payload) for at, payload in zip(positions, held, strict=True) if payload is not None]

    async def trim(self, partition: int, below: Position) -> int:
        with answering():
            redacted: list[Any] = await self._client.hkeys(_redacted_key(partition))
            old = [entry_id for entry_id in redacted if from_id(entry_id) < below]
            pipeline = self._client.pipeline(transaction=True)
            pipeline.xtrim(journal_key(partition), minid=to_id(below), approximate=False)
            if old:
                pipeline.hdel(_redacted_key(partition), *old)
            return sum(await pipeline.execute())

    async def redact(self, partition: int, position: Position, payload: bytes | None) -> None:
        """An entry of a stream cannot be changed: it is deleted, and what takes its place is kept beside the stream."""
        at = to_id(position)
        held = await self.get(partition, position)
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xdel(journal_key(partition), at)
        if payload is None or held is None:
            pipeline.hdel(_redacted_key(partition), at)
        else:
            pipeline.hset(_redacted_key(partition), at, payload)
        with answering():
            await pipeline.execute()

    async def size(self, partition: int) -> tuple[int, int]:
        key = journal_key(partition)
        with answering():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.xlen(key)
            pipeline.memory_usage(key)
            pipeline.hlen(_redacted_key(partition))
            pipeline.memory_usage(_redacted_key(partition))
            n_whole, n_bytes, n_redacted, n_redacted_bytes = await pipeline.execute()
        n_entries = int(n_whole) + int(n_redacted)
        return n_entries, int(n_bytes or 0) + int(n_redacted_bytes or 0) if n_entries else 0


def _last_of(reply: object) -> Position | None:
    """The newest id of a stream by what XINFO says of it; None where there is no such stream."""
    if isinstance(reply, ResponseError) and "no such key" in str(reply):
        return None
    if isinstance(reply, Exception):
        raise reply
    assert isinstance(reply, dict)
    position = from_id(reply["last-generated-id"])
    return position if position != NEVER else None


def _beyond(position: Position | None, otherwise: str) -> str:
    return otherwise if position is None else f"({to_id(position)}"


def _redacted_key(partition: int) -> str:
    return f"{journal_key(partition)}:redacted"


def _result(reply: object) -> AppendResult:
    return refusal(str(reply), type(reply).__name__) if isinstance(reply, Exception) else APPENDED
