"""The archive in a folder: written aside, flushed to disk, then renamed to its name."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from actors.archive import Blobs
from engine.errors import Unavailable

T = TypeVar("T")

ASIDE: Final = "unfinished"
LEFT_OVER_S: Final = 3600.0
LISTINGS: Final = 5
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FolderArchive:
    """Files under one folder, which is made when it is first written to. File calls run in threads."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, blob: bytes) -> None:
        await _answering(self._put, name, blob)

    async def list(self, prefix: str) -> Blobs:
        return await _answering(self._list, prefix)

    async def read(self, name: str, start: int, length: int) -> bytes | None:
        return await _answering(self._read, name, start, length)

    async def delete(self, name: str) -> None:
        await _answering(self._delete, name)

    def _put(self, name: str, blob: bytes) -> None:
        target, aside = self._root / name, self._root / ASIDE
        for folder in (aside, target.parent):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _flush_folder(folder.parent)
        self._drop_left_over(aside)
        unfinished = aside / secrets.token_hex(12)
        try:
            with unfinished.open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        _flush_folder(target.parent)

    def _drop_left_over(self, aside: Path) -> None:
        for file in aside.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > LEFT_OVER_S:
                    file.unlink()

    def _list(self, prefix: str) -> Blobs:
        folder = self._root / prefix
        for _ in range(LISTINGS):
            found: Blobs = []
            try:
                before = folder.stat().st_mtime_ns
                with os.scandir(folder) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            found.append((prefix + entry.name, entry.stat().st_size))
                # A file that takes another's place meanwhile may be missing from a listing, and so may the other.
                if folder.stat().st_mtime_ns == before:
                    break
            except FileNotFoundError:
                return []
        return sorted(found)

    def _read(self, name: str, start: int, length: int) -> bytes | None:
        try:
            with (self._root / name).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except FileNotFoundError:
            return None

    def _delete(self, name: str) -> None:
        path = self._root / name
        with suppress(FileNotFoundError):
            path.unlink()
            _flush_folder(path.parent)


async def _answering(work: Callable[..., T], *arguments: object) -> T:
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        code = "archive_full" if error.errno in FULL else "archive_unavailable"
        raise Unavailable(code, f"the archive did not take it: {error.strerror or error}") from error


def _flush_folder(folder: Path) -> None:
    """Make a new or removed name durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
