"""An archiver as a process of its own, over a real store and a folder; it kills itself at one of its calls."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.archive_folder import FolderArchive
from actors.archive_settings import ArchiveSettings
from actors.archiver import Archiver
from actors.stores import Entry, Position
from actors.valkey import valkey_stores

P, NOW_MS = 3, 1_764_000_000_000
SETTINGS = ArchiveSettings(tail_bytes=60_000, hard_bytes=200_000, segment_bytes=30_000, signals_ms=10**15)


@dataclass
class Tail:
    """The partition as its owner knows it after a claim: everything written so far is covered."""

    epoch: int
    position: Position
    covered: Position
    index: int = P
    ready: bool = True
    n_written: int = 0


class Deadly:
    """Something that ends its process with SIGKILL at one of the calls to it and its like."""

    left = -1
    done_first = False

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*given: Any) -> Any:
            Deadly.left -= 1
            if Deadly.left == 0 and not Deadly.done_first:
                os.kill(os.getpid(), signal.SIGKILL)
            result = await getattr(self._target, name)(*given)
            if Deadly.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call


async def main(url: str, folder: str, epoch: int) -> None:
    stores = valkey_stores(url)
    covered = await stores.journal.last(P) or (0, 0)
    await stores.journal.append([Entry(P, epoch, 0, b"[1]")])
    archiver = Archiver(
        Deadly(stores.journal), Deadly(FolderArchive(Path(folder))), SETTINGS, lambda: 1_764_000_000_000
    )
    tail = Tail(epoch, (epoch, 0), covered)
    while await archiver.turn(tail):
        pass
    await stores.close()


if __name__ == "__main__":
    Deadly.left, Deadly.done_first = int(sys.argv[4]), sys.argv[5] == "after"
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
