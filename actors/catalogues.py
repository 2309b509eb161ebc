"""Publishing the catalogue and the posteriors: kept as versions, put in force by the world pointer, old ones let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from actors.published_offers import CATALOGUE, KEPT_POSTERIORS, POSTERIORS
from actors.publishing import Publisher
from actors.stores import Versions
from actors.zipped import zip_
from engine.catalogue import Product, catalogue_version, to_bytes
from engine.errors import Conflict
from engine.posteriors import Belief, Posteriors

ATTEMPTS: Final = 20
KEPT_CATALOGUES: Final = 3
"""Catalogues are kept for going back; no replay needs one, since decisions record the products they read."""


class OfferPublisher:
    """Changes which catalogue and which posteriors are in force."""

    def __init__(self, versions: Versions, publisher: Publisher, clock: Callable[[], int]) -> None:
        self._versions, self._publisher, self._clock = versions, publisher, clock

    async def publish_catalogue(self, products: Iterable[Product]) -> str:
        """Put a catalogue in force; the same content as the one in force publishes nothing new. Its version."""
        listed = list(products)
        plain = await asyncio.to_thread(to_bytes, listed)
        counts = {"products": len(listed), "out_of_stock": sum(not product.available for product in listed)}
        return await self._publish(CATALOGUE, plain, counts, KEPT_CATALOGUES)

    async def publish_posteriors(self, beliefs: dict[str, dict[str, Belief]]) -> str:
        """Put posteriors in force; their version."""
        counts = {"offers": len(beliefs), "outcomes": sum(b.n for by in beliefs.values() for b in by.values())}
        return await self._publish(POSTERIORS, Posteriors("", beliefs).to_bytes(), counts, KEPT_POSTERIORS)

    async def _publish(self, kind: str, plain: bytes, counts: dict[str, Any], n_kept: int) -> str:
        blob = zip_(plain) if kind == CATALOGUE else plain
        for _ in range(ATTEMPTS):
            kept = [version for version, _ in await self._versions.list(kind)]
            last = max((int(version[1:].split("-")[0]) for version in kept), default=0)
            version = catalogue_version(plain, last + 1)
            if kind == POSTERIORS:
                version = "p" + version[1:]
            current = (await self._versions.world()).get(kind) or ""
            if current.partition("-")[2] == version.partition("-")[2]:
                return str(current)
            try:
                await self._versions.put(kind, version, {"created_ms": self._clock(), **counts}, blob)
            except Conflict:
                continue
            await self._publisher.publish_offers(kind, version)
            for old in kept[: max(0, len(kept) + 1 - n_kept)]:
                await self._versions.delete(kind, old)
            return version
        raise Conflict(f"{kind}_conflict", f"the {kind} is being changed by others all the time; try again")

    async def current(self, kind: str) -> dict[str, Any] | None:
        """What is known of the version in force; None where there is none."""
        version = (await self._versions.world()).get(kind) or ""
        found = dict(await self._versions.list(kind)).get(version) if version else None
        return {"version": version, **found} if found is not None else None
