"""Documents in Valkey: a hash of revs and a hash of documents, changed together by one script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from actors.valkey_client import answering

REVS: Final = "kairos:{documents}:revs"
VALUES: Final = "kairos:{documents}:values"

# One round trip, for the reason that `actors.valkey_versions` gives.
COMPARE_AND_SET: Final = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '0') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
return 1
"""


class ValkeyDocuments:
    """There are some hundreds of them at most, so that a listing reads them all."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._compare_and_set = client.register_script(COMPARE_AND_SET)

    async def get(self, name: str) -> tuple[int, dict[str, Any]] | None:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hget(REVS, name)
        pipeline.hget(VALUES, name)
        with answering():
            rev, value = await pipeline.execute()
        return None if rev is None or value is None else (int(rev), orjson.loads(value))

    async def compare_and_set(self, name: str, expected_rev: int, document: Mapping[str, Any]) -> bool:
        arguments: list[Any] = [name, expected_rev, expected_rev + 1, orjson.dumps(dict(document))]
        with answering():
            return bool(await self._compare_and_set(keys=[REVS, VALUES], args=arguments))

    async def list(self, prefix: str) -> list[tuple[str, int, dict[str, Any]]]:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hgetall(REVS)
        pipeline.hgetall(VALUES)
        with answering():
            revs, values = await pipeline.execute()
        start = prefix.encode()
        named = sorted(name for name in values if name.startswith(start) and name in revs)
        return [(name.decode(), int(revs[name]), orjson.loads(values[name])) for name in named]

    async def delete(self, name: str) -> bool:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hdel(REVS, name)
        pipeline.hdel(VALUES, name)
        with answering():
            n_gone, _ = await pipeline.execute()
        return bool(n_gone)
