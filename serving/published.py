"""The published versions as the HTTP side sees them: texts in, texts out, over the publisher."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import yaml

from actors.catalogues import OfferPublisher
from actors.hosting import epoch_ms
from actors.published_offers import CATALOGUE
from actors.publishing import Publisher
from actors.stores import Versions
from engine.errors import InvalidInput, NotFound
from engine.prior import PriorModel
from serving.books import book_sent, read_book
from serving.catalogue_files import read_catalogue


class PublishedWorlds:
    """The campaign book and the models in force, and how to change the book."""

    def __init__(self, versions: Versions, publisher: Publisher) -> None:
        self._versions, self._publisher = versions, publisher
        self._offers = OfferPublisher(versions, publisher, epoch_ms)

    async def current_book(self) -> dict[str, Any]:
        """The book in force: its version, the book, and its text as it was written."""
        version, meta, data = await self._publisher.current_book()
        text = meta.get("source") or yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        versions = [v for v, _ in await self._versions.list("book")]
        return {"version": version, "book": data, "yaml": text, "versions": versions}

    async def put_book(self, source: str) -> str:
        """Replace the whole book; raises `BookFileInvalid` with every finding, and then changes nothing."""
        found = await book_sent(source)
        return await self._publisher.publish_book(found.book, source)

    async def dry_run(self, source: str, limit: int) -> dict[str, Any]:
        """Which of the newest decisions would come out otherwise under this book; raises as `put_book` does."""
        found = await book_sent(source)
        warnings = [warning.text() for warning in found.warnings]
        return {**await self._publisher.dry_run(found.book, limit), "warnings": warnings}

    async def rollback_book(self, version: str) -> str:
        """Put an earlier version in force again."""
        return await self._publisher.return_to_book(version)

    async def catalogue(self) -> dict[str, Any]:
        """The catalogue in force: its version, when it came, how many products; the version is null without one."""
        return await self._offers.current(CATALOGUE) or {"version": None, "products": 0}

    async def put_catalogue(
        self, raw: bytes, name: str, rates: Mapping[str, float], *, skip_bad: bool = False
    ) -> dict[str, Any]:
        """Replace the catalogue by the content of a file.

        Raises:
            InvalidInput: `bad_catalogue`, with the rows that cannot be read, unless those are to be left out.
        """
        currency = (await self._publisher.current_book())[2].get("currency", "EUR")
        found = await asyncio.to_thread(read_catalogue, raw, name, currency, rates)
        if found.n_bad and (not skip_bad or not found.products):
            more = f"\nand {found.n_bad - len(found.errors)} more" if found.n_bad > len(found.errors) else ""
            raise InvalidInput("bad_catalogue", "\n".join(found.errors) + more)
        version = await self._offers.publish_catalogue(found.products.values())
        gone = sum(not product.available for product in found.products.values())
        return {"version": version, "products": len(found.products), "out_of_stock": gone, "skipped": found.errors}

    async def models(self) -> list[dict[str, Any]]:
        """Every model kept, its card, and which is the champion; the prior is always among them."""
        champion = (await self._versions.world())["model"] or PriorModel.version
        prior = {"version": PriorModel.version, "kind": PriorModel.kind, "champion": champion == PriorModel.version}
        kept = [
            {"version": version, "kind": "lightgbm", "champion": version == champion, "card": meta}
            for version, meta in await self._versions.list("model")
        ]
        return [prior, *kept]


async def ensure_book(publisher: Publisher, source: str, name: str) -> str:
    """Publish the book of a file at start unless one is in force already; returns the version in force."""
    try:
        version, _, _ = await publisher.current_book()
    except NotFound:
        return await publisher.publish_book(read_book(source.encode(), name).book, source)
    return version
