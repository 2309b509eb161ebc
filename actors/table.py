"""The partition table in Valkey, with the epochs, addresses and secrets that the actors agree on through it."""

from __future__ import annotations

import secrets
from typing import Any

import orjson
from redis.asyncio import Redis

from actors.stores import TableState, partitions_fixed
from actors.valkey_client import answering
from actors.valkey_versions import COMPARE_AND_SET
from engine.errors import Unavailable

TABLE, SHARDS, EPOCH = "kairos:{table}", "kairos:{table}:shards", "kairos:{table}:epoch"

ANNOUNCE = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and cjson.decode(held)[1] > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class ValkeyTable:
    """A hash with the number of partitions, the revision and the owners; beside it the shards that have announced."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._compare_and_set = client.register_script(COMPARE_AND_SET)
        self._announce = client.register_script(ANNOUNCE)

    async def create(self, n_partitions: int) -> TableState:
        with answering():
            await self._client.hsetnx(TABLE, "n_partitions", str(n_partitions))
        held = await self.read()
        if held.n_partitions != n_partitions:
            raise partitions_fixed(held.n_partitions, n_partitions)
        return held

    async def read(self) -> TableState:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hgetall(TABLE)
        pipeline.hgetall(SHARDS)
        with answering():
            table, shards = await pipeline.execute()
        if b"n_partitions" not in table:
            raise Unavailable("no_table", "the partition table has not been created yet")
        return _state(table, {int(shard): orjson.loads(spoken) for shard, spoken in shards.items()})

    async def compare_and_set(self, expected_version: int, new: TableState) -> bool:
        held = await self.read()
        if new.n_partitions != held.n_partitions:
            raise partitions_fixed(held.n_partitions, new.n_partitions)
        value = orjson.dumps({"owners": new.owners, "epochs": new.epochs})
        with answering():
            done = await self._compare_and_set(keys=[TABLE], args=[expected_version, expected_version + 1, value])
        return bool(done)

    async def next_epoch(self) -> int:
        with answering():
            return int(await self._client.incr(EPOCH))

    async def announce(self, shard: int, address: str, incarnation: int) -> bool:
        spoken = orjson.dumps([incarnation, address])
        with answering():
            return bool(await self._announce(keys=[SHARDS], args=[shard, incarnation, spoken]))

    async def secret(self, name: str) -> bytes:
        key = f"kairos:secret:{name}"
        with answering():
            await self._client.set(key, secrets.token_bytes(32), nx=True)
            held = await self._client.get(key)
        if not isinstance(held, bytes):
            raise Unavailable("store_refused", f"the secret {name} was removed while it was read")
        return held


def _state(table: dict[bytes, bytes], shards: dict[int, Any]) -> TableState:
    n_partitions = int(table[b"n_partitions"])
    empty = TableState.empty(n_partitions)
    value = orjson.loads(table[b"value"]) if b"value" in table else {}
    return TableState(
        version=int(table.get(b"rev", 0)),
        n_partitions=n_partitions,
        owners=tuple(value.get("owners", empty.owners)),
        epochs=tuple(value.get("epochs", empty.epochs)),
        addresses={shard: address for shard, (_, address) in shards.items()},
        incarnations={shard: incarnation for shard, (incarnation, _) in shards.items()},
    )
