"""Publishing books and models: keep the version, move the pointer by compare-and-set, tell the shards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import orjson

from actors.asking import Asks
from actors.dry_running import dry_run_everywhere
from actors.stores import Table, Versions
from engine.book import Book, book_version
from engine.errors import Conflict, KairosError, NotFound, Unavailable
from engine.prior import PriorModel

ATTEMPTS: Final = 20
TELL_TIMEOUT_S: Final = 2.0


class Publisher:
    """Changes what is in force: in the store when a method returns, and known to every shard that answers."""

    def __init__(self, versions: Versions, table: Table, tells: Asks | None, clock: Callable[[], int]) -> None:
        self._versions, self._table, self._tells, self._clock = versions, table, tells, clock

    async def publish_book(self, book: Book, source: str) -> str:
        """Keep a book and put it in force; `source` is its text as written. Returns its version.

        The same content as the book in force publishes nothing new.
        """
        for _ in range(ATTEMPTS):
            pointer = await self._versions.world()
            n = 1 + max((int(v[1:].split("-")[0]) for v, _ in await self._versions.list("book")), default=0)
            version = book_version(book, n)
            if pointer["book"].partition("-")[2] == version.partition("-")[2]:
                return str(pointer["book"])
            meta = {"created_ms": self._clock(), "source": source}
            try:
                await self._versions.put("book", version, meta, orjson.dumps(book.data()))
            except Conflict:
                continue
            if await self._move(pointer, book=version):
                return version
        raise Conflict("book_conflict", "the book is being changed by others all the time; try again")

    async def return_to_book(self, version: str) -> str:
        """Put an earlier book in force.

        Raises:
            engine.errors.NotFound: `unknown_version`.
        """
        if await self._versions.get("book", version) is None:
            known = ", ".join(v for v, _ in (await self._versions.list("book"))[-10:])
            raise NotFound("unknown_version", f"no book {version}; the latest are: {known or 'none'}")
        await self._move_to(book=version)
        return version

    async def publish_model(self, version: str) -> None:
        """Put a model in force, after a check that it is kept."""
        if version != PriorModel.version and await self._versions.get("model", version) is None:
            raise NotFound("unknown_version", f"no model {version}")
        await self._move_to(model=version)

    async def current_book(self) -> tuple[str, dict[str, Any], Any]:
        """(version, meta, data) of the book in force.

        Raises:
            engine.errors.NotFound: `no_book`.
        """
        version = (await self._versions.world())["book"]
        found = await self._versions.get("book", version) if version else None
        if found is None:
            raise NotFound("no_book", "no campaign book is published")
        return version, found[0], orjson.loads(found[1])

    async def dry_run(self, book: Book, limit: int) -> dict[str, Any]:
        """Which of the newest decisions (at most `limit` of each shard) would come out otherwise under this book.

        Raises:
            engine.errors.InvalidInput: the shards refuse the book. Unavailable: no shard answered.
        """
        if self._tells is None:
            raise Unavailable("shard_unavailable", "there are no shards to ask here")
        return await dry_run_everywhere(self._table, self._tells, book.data(), limit)

    async def _move_to(self, **changes: str) -> None:
        for _ in range(ATTEMPTS):
            if await self._move(await self._versions.world(), **changes):
                return
        raise Conflict("world_conflict", "what is in force is being changed by others all the time; try again")

    async def _move(self, pointer: dict[str, Any], **changes: str) -> bool:
        wanted = {**pointer, "model": pointer["model"] or PriorModel.version, **changes}
        if not await self._versions.publish(pointer["rev"], wanted):
            return False
        await self._tell_shards()
        return True

    async def _tell_shards(self) -> None:
        # A shard that does not hear it now reads the pointer by itself within its polling interval.
        if self._tells is None:
            return
        owners = (await self._table.read()).owners
        one_each = {owner: partition for partition, owner in enumerate(owners) if owner >= 0}

        await asyncio.gather(*(self._tell(self._tells, partition) for partition in one_each.values()))

    async def _tell(self, tells: Asks, partition: int) -> None:
        with suppress(KairosError):
            await tells.ask_partition(partition, "refresh", {}, timeout_s=TELL_TIMEOUT_S)
