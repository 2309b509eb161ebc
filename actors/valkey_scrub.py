"""Redacted entries leave the bytes of Valkey too: its stream is built anew, then its log on disk is rewritten.

XDEL marks an entry as deleted inside a node of the stream; the bytes stay in memory, and go along into every rewrite of
the log, until the whole node is gone. After a scrub they are in neither, as soon as the rewrite that it asks for has
ended. What remains out of reach: freed blocks of the disk, replicas' and other copies of the log (backups).
"""

from __future__ import annotations

import logging
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from actors.valkey_client import LOST, answering, journal_key
from engine.errors import Unavailable

log = logging.getLogger("kairos.scrub")

CHUNK: Final = 200
TRIES: Final = 5

# Copies entries after ARGV[1] to the new stream; the last position copied, or false at the end.
COPY: Final = """
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
for _, entry in ipairs(found) do redis.call('XADD', KEYS[2], entry[1], unpack(entry[2])) end
return #found > 0 and found[#found][1] or false
"""
# Copies what came since, and puts the new stream in the place of the old one, if nothing was removed meanwhile.
FINISH: Final = """
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+')
for _, entry in ipairs(found) do redis.call('XADD', KEYS[2], entry[1], unpack(entry[2])) end
if redis.call('XLEN', KEYS[1]) ~= redis.call('XLEN', KEYS[2]) then
  redis.call('DEL', KEYS[2])
  return 0
end
if redis.call('XLEN', KEYS[2]) == 0 then return 1 end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then redis.call('XSETID', KEYS[2], info[i + 1]) end
end
redis.call('RENAME', KEYS[2], KEYS[1])
return 1
"""


class ValkeyScrub:
    """Verbs: note, noted, forget (what is to be done), scrub (a partition's stream), rewrite (the log on disk)."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._copy, self._finish = client.register_script(COPY), client.register_script(FINISH)

    async def note(self, partition: int) -> None:
        with answering():
            await self._client.set(_unclean_key(partition), b"1")

    async def noted(self, partition: int) -> bool:
        with answering():
            return bool(await self._client.exists(_unclean_key(partition)))

    async def forget(self, partition: int) -> None:
        with answering():
            await self._client.delete(_unclean_key(partition))

    async def scrub(self, partition: int) -> None:
        """Build the stream anew, some entries at a time, while appends go on.

        Raises:
            engine.errors.Unavailable: the store does not answer, or entries were removed all the while.
        """
        key = journal_key(partition)
        keys = [key, f"{key}:anew"]
        for _ in range(TRIES):
            with answering():
                await self._client.delete(keys[1])
                after: str | bytes = "0-0"
                while (last := await self._copy(keys=keys, args=[after, CHUNK])) is not None:
                    after = last
                if await self._finish(keys=keys, args=[after]):
                    break
        else:
            raise Unavailable("not_scrubbed", f"the stream of partition {partition} is not still enough to be rebuilt")

    async def rewrite(self) -> None:
        """Ask for the log to be rewritten. Where that is forbidden, it is said and left to the server's own time."""
        try:
            await self._client.bgrewriteaof()
        except LOST as error:
            raise Unavailable("store_unavailable", f"the store did not answer: {error}") from error
        except ResponseError as error:
            if "already in progress" not in str(error):
                log.warning("the store's log is not rewritten now: %s", error)
                return
            # The one in progress began before: it may hold what is to go. Another follows on its heels.
            raise Unavailable("log_busy", "the store's log is being rewritten already") from error


def _unclean_key(partition: int) -> str:
    return f"{journal_key(partition)}:unclean"
