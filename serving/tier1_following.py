"""The sources of the book in force, as an ingress follows them: a book that changes is read beside the hot path."""

from __future__ import annotations

import asyncio
import logging

import orjson

from actors.stores import Versions
from engine.book import load_book
from engine.errors import KairosError
from serving.tier1 import Tier1
from serving.tier1_source import sources_of

log = logging.getLogger("kairos.http")


async def follow_sources(versions: Versions, tier1: Tier1, hosts: tuple[str, ...], every_s: float) -> None:
    """Until cancelled, ask those whom the book in force names."""
    seen = ""
    while True:
        try:
            seen = await take_sources(versions, tier1, hosts, seen)
        except KairosError as failure:
            log.warning("the book's Tier 1 cannot be followed: %s", failure.message)
        except Exception:
            log.exception("the book's Tier 1 cannot be followed")
        await asyncio.sleep(every_s)


async def take_sources(versions: Versions, tier1: Tier1, hosts: tuple[str, ...], seen: str) -> str:
    """Take the sources of the book in force if it is another than `seen`; returns its version."""
    version = str((await versions.world())["book"])
    if version in ("", seen):
        return seen
    kept = await versions.get("book", version)
    if kept is None:
        return seen
    book = await asyncio.to_thread(lambda: load_book(orjson.loads(kept[1])))
    sources = sources_of(book, frozenset(hosts))
    if sources:
        await tier1.open()
    tier1.use(sources)
    return version
