"""The published versions as the HTTP side sees them: texts in, texts out, over the publisher."""

from __future__ import annotations

from typing import Any

import yaml

from actors.publishing import Publisher
from actors.stores import Versions
from engine.errors import NotFound
from engine.prior import PriorModel
from serving.books import read_book


class PublishedWorlds:
    """The campaign book and the models in force, and how to change the book."""

    def __init__(self, versions: Versions, publisher: Publisher) -> None:
        self._versions, self._publisher = versions, publisher

    async def current_book(self) -> dict[str, Any]:
        """The book in force: its version, the book, and its text as it was written."""
        version, meta, data = await self._publisher.current_book()
        text = meta.get("source") or yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        versions = [v for v, _ in await self._versions.list("book")]
        return {"version": version, "book": data, "yaml": text, "versions": versions}

    async def put_book(self, source: str) -> str:
        """Replace the whole book; raises `BookFileInvalid` with every finding, and then changes nothing."""
        return await self._publisher.publish_book(read_book(source.encode(), "campaigns.yaml").book, source)

    async def dry_run(self, source: str, limit: int) -> dict[str, Any]:
        """Which of the newest decisions would come out otherwise under this book; raises as `put_book` does."""
        found = read_book(source.encode(), "campaigns.yaml")
        warnings = [warning.text() for warning in found.warnings]
        return {**await self._publisher.dry_run(found.book, limit), "warnings": warnings}

    async def rollback_book(self, version: str) -> str:
        """Put an earlier version in force again."""
        return await self._publisher.return_to_book(version)

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
