"""An ingress replica: the HTTP application with its own streams to the shards, opened when it starts."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from actors.ending import ended
from actors.experiments_board import ExperimentBoard
from actors.hosting import epoch_ms
from actors.publishing import Publisher
from actors.router import Router
from actors.runs import Runs
from actors.stores import Stores
from actors.valkey import valkey_stores
from serving.agents import AgentReader
from serving.app import build_app
from serving.draining import TOLD, is_draining
from serving.keys import KeyRecord, KeyRing
from serving.offer_keys import OfferKeys
from serving.published import PublishedWorlds
from serving.rollouts import PublishedRollouts
from serving.settings import Settings
from serving.tier1 import Tier1
from serving.tier1_following import follow_sources


@dataclass(frozen=True, slots=True)
class IngressOptions:
    """What a replica needs: the settings, the store's address, and what is weak about the store, if anything."""

    settings: Settings
    redis_url: str
    weaknesses: tuple[str, ...] = ()
    keys: tuple[KeyRecord, ...] = ()
    """Those of the environment in which `kairos up` runs, which a replica on another node does not have."""


class Ingress:
    """An ASGI application that opens its store and streams at the lifespan's start and closes them at its end."""

    def __init__(self, options: IngressOptions) -> None:
        self._options = options
        self._app: ASGIApp | None = None
        self._stores: Stores | None = None
        self._router: Router | None = None
        self._tier1: Tier1 | None = None
        self._following: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if self._app is None:
            await self.start()
        assert self._app is not None
        await self._app(scope, receive, send)

    async def start(self) -> None:
        """Open the store, read the secrets, build the application."""
        options = self._options
        self._stores = stores = valkey_stores(options.redis_url)
        self._router = router = Router(stores.table)
        publisher = Publisher(stores.versions, stores.table, router, epoch_ms)
        asked = options.settings.tier1
        self._tier1 = tier1 = Tier1(asked)
        self._following = asyncio.create_task(
            follow_sources(stores.versions, tier1, asked.hosts, asked.follow_s), name="tier1"
        )
        self._app = build_app(
            router,
            PublishedWorlds(stores.versions, publisher),
            options.settings,
            KeyRing.load(options.settings, os.environ, options.keys),
            clock=epoch_ms,
            message_key=await stores.table.secret("messages"),
            readiness=self._readiness,
            trainings=Runs(stores.documents, epoch_ms),
            experiments=ExperimentBoard(stores.documents, epoch_ms),
            rollouts=PublishedRollouts(stores, publisher, options.settings, epoch_ms),
            tier1=tier1,
            offer_keys=await OfferKeys.read(stores.table),
            agents=await asyncio.to_thread(AgentReader().warm),
        )

    async def stop(self) -> None:
        """Close the streams and the store."""
        await ended(self._following)
        if self._tier1 is not None:
            await self._tier1.close()
        if self._router is not None:
            await self._router.close()
        if self._stores is not None:
            await self._stores.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _readiness(self) -> dict[str, Any]:
        """Ready when every shard answers; with the store's weaknesses by name where it was allowed to have any."""
        assert self._stores is not None
        assert self._router is not None
        if await is_draining(self._stores.documents):
            return dict(TOLD)
        state = await self._stores.table.read()
        one_each = {owner: p for p, owner in enumerate(state.owners)}
        shards = {}
        for owner, partition in sorted(one_each.items()):
            reply = await self._router.ask_partition(partition, "stats", {}, timeout_s=2.0)
            shards[str(owner)] = "unavailable" not in reply
        told: dict[str, Any] = {"ready": all(shards.values()), "shards": shards}
        if self._options.weaknesses:
            told["store"] = {"durable": False, "weaknesses": list(self._options.weaknesses)}
        return told
