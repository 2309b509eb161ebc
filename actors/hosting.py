"""A shard with everything around it: stores, stream, mesh and model loading, on an event loop of its own thread."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeVar

import uvloop

from actors.archive import open_archive
from actors.archive_settings import ArchiveSettings
from actors.archiver import Archiver
from actors.ledger import Ledger
from actors.router import Router
from actors.shard import SessionShard
from actors.shard_server import ShardServer
from actors.shard_settings import ShardSettings
from actors.stores import Stores
from actors.valkey import valkey_stores
from actors.worlds import Worlds
from training.registry import Registry

T = TypeVar("T")
TURNS_WITHIN_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class HostOptions:
    """Where a shard finds its store and on which address of its node it listens."""

    index: int
    redis_url: str
    listen_host: str
    settings: ShardSettings = field(default_factory=ShardSettings)
    archive: str | None = None
    """Where the journal goes when it leaves the store; None: it is trimmed and gone."""
    archiving: ArchiveSettings = field(default_factory=ArchiveSettings)


def epoch_ms() -> int:
    """The time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def spare_the_collector() -> None:
    """Let a process collect its young objects only.

    Profiles hold no cycles. A full collection over 100,000 of them would stop a shard for a good part of a second; in
    an ingress collections took 7 % of its time, in a trainer at full load 16 %, and found next to nothing (measured).
    """
    gc.freeze()
    gc.set_threshold(20_000, 50, 100_000)


class LoopThread:
    """An event loop in a thread of its own, for state that must not share a loop with anybody."""

    def __init__(self, name: str) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine there and wait for its result here."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def stop(self) -> None:
        """End the loop; what is still in it is dropped."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5.0)


class ShardHost:
    """One shard in a process (a Ray actor) or a thread (its twin). Verbs: start, describe, stop."""

    def __init__(
        self,
        options: HostOptions,
        open_stores: Callable[[str], Stores] = valkey_stores,
        clock: Callable[[], int] = epoch_ms,
    ) -> None:
        self._options, self._open_stores, self._clock = options, open_stores, clock
        self._thread = LoopThread(f"shard-{options.index}")
        self._address = ""

    def start(self) -> str:
        """Claim, recover, listen, announce; returns the address."""
        self._address = self._thread.run(self._start())
        return self._address

    async def _start(self) -> str:
        options = self._options
        self._stores = stores = self._open_stores(options.redis_url)
        self._router = Router(stores.table)
        self._shard = SessionShard(
            options.index,
            journal=stores.journal,
            snapshots=stores.snapshots,
            table=stores.table,
            worlds=Worlds(stores.versions, Registry(stores.versions).load),
            mesh=self._router,
            clock=self._clock,
            dice=Random(secrets.randbits(128)),
            settings=options.settings,
            archiver=self._archiver(stores),
            ledger=Ledger(stores.documents),
        )
        self._server = ShardServer(self._shard, await stores.table.secret("stream"), options.listen_host)
        address = await self._server.start()
        await self._shard.start()
        await stores.table.announce(options.index, address, self._shard.incarnation)
        return address

    def _archiver(self, stores: Stores) -> Archiver | None:
        options = self._options
        if options.archive is None:
            return None
        return Archiver(stores.journal, open_archive(options.archive), options.archiving, self._clock, stores.scrub)

    def describe(self) -> dict[str, Any]:
        """Where it listens and how much it has done, told by its loop; TimeoutError if that does not turn."""
        return self._thread.run(self._describe(), TURNS_WITHIN_S)

    async def _describe(self) -> dict[str, Any]:
        return {"shard": self._options.index, "address": self._address, "pid": os.getpid(), **self._shard.told()}

    def abandon(self) -> None:
        """Let go after a failed start."""
        self._thread.stop()

    def stop(self) -> None:
        """Save what is dirty and stop listening."""
        self._thread.run(self._stop(), 30.0)
        self._thread.stop()

    async def _stop(self) -> None:
        await self._server.stop()
        await self._shard.stop()
        await self._router.close()
        await self._stores.close()
