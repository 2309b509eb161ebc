"""A messenger with everything around it, on an event loop of its own thread: no shard and no ingress waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from actors.archive import open_archive
from actors.ending import ended
from actors.history import History
from actors.hosting import LoopThread, epoch_ms
from actors.message import Destination, Post
from actors.messenger import Messenger
from actors.segments import Segments
from actors.stores import Stores
from actors.valkey import valkey_stores
from engine.errors import KairosError

log = logging.getLogger("kairos.messenger")

NAME: Final = "messenger"
TRY_AGAIN_S: Final = 1.0


class MessengerHost:
    """Verbs: start, stop. A store that is not there yet is waited for."""

    def __init__(
        self,
        redis_url: str,
        archive: str | None,
        destinations: Mapping[str, Destination],
        post: Post,
        open_stores: Callable[[str], Stores] = valkey_stores,
        every_s: float = 1.0,
    ) -> None:
        self._redis_url, self._archive, self._destinations = redis_url, archive, dict(destinations)
        self._post, self._open_stores, self._every_s = post, open_stores, every_s
        self._thread = LoopThread(NAME)
        self._opening: asyncio.Task[None] | None = None
        self._stores: Stores | None = None
        self._messenger: Messenger | None = None

    def start(self) -> None:
        """Begin beside whatever else runs."""
        self._thread.run(self._start())

    async def _start(self) -> None:
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        self._stores = stores = self._open_stores(self._redis_url)
        segments = None if self._archive is None else Segments(open_archive(self._archive))
        history = History(stores.journal, segments, foreign=True)
        # Jitter is no part of any record: it may be as it likes.
        jitter = Random()
        messenger = Messenger(stores, history, self._destinations, self._post, epoch_ms, chance=jitter.random)
        while self._messenger is None:
            try:
                await stores.table.read()
                self._messenger = messenger
            except KairosError as failure:
                log.warning("webhooks cannot start yet: %s", failure.message)
                await asyncio.sleep(TRY_AGAIN_S)
        messenger.start(self._every_s)

    def stop(self) -> None:
        """End what is under way; it is sent again after the next start."""
        self._thread.run(self._stop(), 30.0)
        self._thread.stop()

    async def _stop(self) -> None:
        await ended(self._opening)
        if self._messenger is not None:
            await self._messenger.stop()
        if self._stores is not None:
            await self._stores.close()
