"""Snapshots in Valkey: a hash a partition, written together with what it covers, and only by the partition's owner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from itertools import chain
from typing import Any

from redis.asyncio import Redis

from actors.stores import Position
from actors.valkey_client import answering, covered_key, from_id, journal_key, snapshots_key, to_id
from engine.errors import Fenced

# The journal's own last id is the fence, so that there is one truth about who owns a partition. A script, because
# WATCH on the journal would fail with every append that goes on meanwhile.
SAVE = """
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if not info.err then
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local held = tonumber(string.match(info[i + 1], '^(%d+)'))
      if held > tonumber(ARGV[1]) then return held end
    end
  end
end
local n_deleted = tonumber(ARGV[3])
for i = 4, 3 + n_deleted do redis.call('HDEL', KEYS[2], ARGV[i]) end
for i = 4 + n_deleted, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('SET', KEYS[3], ARGV[2])
return -1
"""
PAGE = 512


class ValkeySnapshots:
    """HMGET to load, one script to save; keep a save to some megabytes, the server does nothing else meanwhile."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._save = client.register_script(SAVE)

    async def load(self, keys: Sequence[tuple[int, str]]) -> list[bytes | None]:
        if not keys:
            return []
        at: dict[int, list[int]] = {}
        for i, (partition, _) in enumerate(keys):
            at.setdefault(partition, []).append(i)
        pipeline = self._client.pipeline(transaction=False)
        for partition, places in at.items():
            pipeline.hmget(snapshots_key(partition), [keys[i][1] for i in places])
        with answering():
            found = await pipeline.execute()
        forms: list[bytes | None] = [None] * len(keys)
        for places, values in zip(at.values(), found, strict=True):
            for i, value in zip(places, values, strict=True):
                forms[i] = value
        return forms

    async def save(
        self,
        partition: int,
        snapshots: Mapping[str, bytes],
        deleted: Collection[str],
        covered: Position,
        *,
        epoch: int,
    ) -> None:
        keys = [journal_key(partition), snapshots_key(partition), covered_key(partition)]
        arguments: list[Any] = [epoch, to_id(covered), len(deleted), *deleted, *chain.from_iterable(snapshots.items())]
        with answering():
            newer = int(await self._save(keys=keys, args=arguments))
        if newer >= 0:
            raise Fenced("fenced", f"partition {partition} is held under epoch {newer}, not {epoch}")

    async def covered(self, partition: int) -> Position | None:
        with answering():
            text = await self._client.get(covered_key(partition))
        return from_id(text) if text else None

    async def tracks(self, partition: int) -> AsyncIterator[str]:
        cursor, seen = 0, set[str]()
        page: Any
        while True:
            with answering():
                cursor, page = await self._client.hscan(snapshots_key(partition), cursor, count=PAGE)
            for name in page:
                track = name.decode()
                if track not in seen:
                    seen.add(track)
                    yield track
            if cursor == 0:
                return
