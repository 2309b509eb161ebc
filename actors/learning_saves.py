"""Where learning keeps what it has read so far: beside the archive's segments, or in the store where there is none."""

from __future__ import annotations

from typing import Protocol

from actors.archive import Archive
from actors.stores import Versions

KEPT = 2
"""The newest, and the one before it for a newest that cannot be read."""


class Saves(Protocol):
    """Whole states, each replacing the one before."""

    async def load(self) -> list[bytes]:
        """What was saved, the newest first; another is there only for when the newest is broken."""
        ...

    async def save(self, blob: bytes, *, alone: bool = False) -> None:
        """Keep a state; on return it is durable, and where it is to stand `alone` nothing older is left."""
        ...


class ArchiveSaves:
    """Blobs `learning/<name>-<n>.kwin` in the archive."""

    def __init__(self, archive: Archive, name: str) -> None:
        self._archive, self._prefix = archive, f"learning/{name}-"

    async def load(self) -> list[bytes]:
        found = [await self._archive.read(name, 0, size) for name, size in reversed(await self._listed())]
        return [blob for blob in found if blob is not None]

    async def save(self, blob: bytes, *, alone: bool = False) -> None:
        before = [name for name, _ in await self._listed()]
        n = 1 + int(before[-1][len(self._prefix) : -5]) if before else 1
        await self._archive.put(f"{self._prefix}{n:012d}.kwin", blob)
        for name in before if alone else before[: 1 - KEPT]:
            await self._archive.delete(name)

    async def _listed(self) -> list[tuple[str, int]]:
        found = await self._archive.list("learning/")
        return [one for one in found if one[0].startswith(self._prefix) and one[0].endswith(".kwin")]


class VersionSaves:
    """Versions of kind `learning-<name>` in the store; for windows that fit beside everything else there."""

    def __init__(self, versions: Versions, name: str) -> None:
        self._versions, self._kind = versions, f"learning-{name}"

    async def load(self) -> list[bytes]:
        names = sorted((name for name, _ in await self._versions.list(self._kind)), reverse=True)
        found = [await self._versions.get(self._kind, name) for name in names]
        return [one[1] for one in found if one is not None]

    async def save(self, blob: bytes, *, alone: bool = False) -> None:
        before = sorted(name for name, _ in await self._versions.list(self._kind))
        n = 1 + int(before[-1]) if before else 1
        await self._versions.put(self._kind, f"{n:012d}", {"created_ms": n}, blob)
        for name in before if alone else before[: 1 - KEPT]:
            await self._versions.delete(self._kind, name)
