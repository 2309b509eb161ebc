"""Where segments of the journal go for good: the Protocol of an archive, its in-memory twin, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from engine.errors import InvalidInput

Blobs = list[tuple[str, int]]
"""(name, bytes) of each blob, in the order of names."""


class Archive(Protocol):
    """Named, immutable blobs that outlive the store. Names are paths of a-z, 0-9, `-`, `_`, `.` with one `/`.

    Every method raises `engine.errors.Unavailable`: `archive_full` where there is no more room, `archive_unavailable`
    for everything else that may work in a moment.
    """

    async def put(self, name: str, blob: bytes) -> None:
        """Keep a blob: on return it is durable, and it is never there in part. The same again changes nothing."""
        ...

    async def list(self, prefix: str) -> Blobs:
        """All blobs whose name begins with `prefix`, which ends with `/`."""
        ...

    async def read(self, name: str, start: int, length: int) -> bytes | None:
        """So many bytes from `start` (fewer where the blob ends); None if there is no such blob."""
        ...

    async def delete(self, name: str) -> None:
        """Forget a blob for good; nothing happens where there is none."""
        ...


class MemoryArchive:
    """A dict of blobs. `fault` is asked before every call with its verb and name, and may raise."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.fault: Callable[[str, str], None] = _no_fault

    async def put(self, name: str, blob: bytes) -> None:
        self.fault("put", name)
        self.held[name] = bytes(blob)

    async def list(self, prefix: str) -> Blobs:
        self.fault("list", prefix)
        return sorted((name, len(blob)) for name, blob in self.held.items() if name.startswith(prefix))

    async def read(self, name: str, start: int, length: int) -> bytes | None:
        self.fault("read", name)
        blob = self.held.get(name)
        return None if blob is None else blob[start : start + length]

    async def delete(self, name: str) -> None:
        self.fault("delete", name)
        self.held.pop(name, None)


def _no_fault(_verb: str, _name: str) -> None:
    pass


def open_archive(place: str) -> Archive:
    """The archive at a folder, or at `s3://bucket/prefix` (also `gs://`, `az://`), where the extra `s3` is installed.

    Keys and end points of object storage come from the environment, as its own tools read them (`AWS_…`).

    Raises:
        InvalidInput: `no_extra`, `bad_archive`.
    """
    if "://" not in place:
        from actors.archive_folder import FolderArchive

        return FolderArchive(Path(place))
    try:
        from actors.archive_objects import open_objects
    except ModuleNotFoundError as missing:
        raise InvalidInput(
            "no_extra", f"an archive at {place} needs {missing.name}: pip install 'kairos[s3]'"
        ) from None
    return open_objects(place)
