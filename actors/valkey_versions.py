"""Versions in Valkey: a hash of metas and a hash of blobs a kind, and the pointer to what is in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from redis.asyncio import Redis

from actors.stores import Listing, in_order
from actors.valkey_client import answering
from engine.errors import Conflict

WORLD = "kairos:world"

# One round trip, and an answer that a lost connection cannot turn into a false "somebody else was first", as redis-py's
# WATCH would.
COMPARE_AND_SET = """
if (redis.call('HGET', KEYS[1], 'rev') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'rev', ARGV[2], 'value', ARGV[3])
return 1
"""


class ValkeyVersions:
    """HSETNX keeps the first of each name."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._compare_and_set = client.register_script(COMPARE_AND_SET)

    async def put(self, kind: str, version: str, meta: Mapping[str, Any], blob: bytes) -> None:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hsetnx(_metas(kind), version, orjson.dumps(dict(meta)))
        pipeline.hsetnx(_blobs(kind), version, blob)
        pipeline.hget(_blobs(kind), version)
        with answering():
            *_, held = await pipeline.execute()
        if held != blob:
            raise Conflict("version_exists", f"{kind} {version} exists with other content")

    async def get(self, kind: str, version: str) -> tuple[dict[str, Any], bytes] | None:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hget(_metas(kind), version)
        pipeline.hget(_blobs(kind), version)
        with answering():
            meta, blob = await pipeline.execute()
        return None if meta is None or blob is None else (orjson.loads(meta), blob)

    async def list(self, kind: str) -> Listing:
        with answering():
            held: dict[Any, Any] = await self._client.hgetall(_metas(kind))
        return in_order([(version.decode(), orjson.loads(meta)) for version, meta in held.items()])

    async def delete(self, kind: str, version: str) -> bool:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hdel(_metas(kind), version)
        pipeline.hdel(_blobs(kind), version)
        with answering():
            n_gone, _ = await pipeline.execute()
        return bool(n_gone)

    async def world(self) -> dict[str, Any]:
        with answering():
            rev, value = await self._client.hmget(WORLD, ["rev", "value"])
        pointer = orjson.loads(value) if value else {"book": "", "model": ""}
        return {**pointer, "rev": int(rev or 0)}

    async def publish(self, expected_rev: int, pointer: Mapping[str, Any]) -> bool:
        arguments: list[Any] = [expected_rev, expected_rev + 1, orjson.dumps(dict(pointer))]
        with answering():
            return bool(await self._compare_and_set(keys=[WORLD], args=arguments))


def _metas(kind: str) -> str:
    return f"kairos:{{versions}}:{kind}"


def _blobs(kind: str) -> str:
    return f"kairos:{{versions}}:{kind}:blobs"
