"""Catalogue and posteriors as published versions: loaded beside the loop, the one in force kept."""

from __future__ import annotations

import asyncio
import logging

from actors.stores import Versions
from actors.zipped import unzip
from engine.catalogue import Catalogue
from engine.posteriors import Posteriors

log = logging.getLogger("kairos.shard")

CATALOGUE, POSTERIORS = "catalogue", "posteriors"
"""Kinds of version, and their keys in the world pointer."""
KEPT_POSTERIORS = 8


class PublishedOffers:
    """Loads what offers are made of. What cannot be loaded is said, and what was in force stays."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._catalogue: Catalogue | None = None
        self._posteriors: dict[str, Posteriors] = {}

    async def catalogue(self, version: str) -> Catalogue | None:
        """The catalogue of a version; None where none is published."""
        if not version:
            self._catalogue = None
        elif self._catalogue is None or self._catalogue.version != version:
            found = await self._versions.get(CATALOGUE, version)
            if found is None:
                log.error("catalogue %s is published and not kept; the one before stays", version)
                return self._catalogue
            # A hundred thousand products take half a second to read.
            self._catalogue = await asyncio.to_thread(_read, version, found[1])
        return self._catalogue

    async def posteriors(self, version: str) -> Posteriors | None:
        """The posteriors of a version; None where none are published.

        Raises:
            LookupError: they are not kept any more.
        """
        if not version:
            return None
        if version not in self._posteriors:
            found = await self._versions.get(POSTERIORS, version)
            if found is None:
                raise LookupError(f"posteriors {version} are not kept")
            self._posteriors[version] = Posteriors.from_bytes(version, found[1])
            for old in list(self._posteriors)[:-KEPT_POSTERIORS]:
                del self._posteriors[old]
        return self._posteriors[version]


def _read(version: str, blob: bytes) -> Catalogue:
    return Catalogue.from_bytes(version, unzip(blob))
