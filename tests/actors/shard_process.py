"""One shard as a process of its own, over a real store; told to, it kills itself around a step of a link."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from actors.hosting import HostOptions, ShardHost
from actors.shard_settings import ShardSettings
from actors.stores import AppendResult, Entry, Journal, Stores
from actors.valkey import valkey_stores


class Deadly:
    """A journal that ends its process with SIGKILL before or after an entry with a certain kind of record."""

    def __init__(self, journal: Journal, when: str, kind: str) -> None:
        self._journal, self._when, self._mark = journal, when, f'["{kind}"'.encode()

    def __getattr__(self, name: str) -> object:
        return getattr(self._journal, name)

    async def append(self, entries: Sequence[Entry]) -> list[AppendResult]:
        deadly = any(self._mark in entry.payload for entry in entries)
        if deadly and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        results = await self._journal.append(entries)
        if deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return results


def stores(url: str) -> Stores:
    opened = valkey_stores(url)
    if len(sys.argv) > 3:
        when, kind = sys.argv[3].split(":")
        deadly: Journal = Deadly(opened.journal, when, kind)  # type: ignore[assignment]
        return replace(opened, journal=deadly)
    return opened


if __name__ == "__main__":
    options = HostOptions(int(sys.argv[1]), sys.argv[2], "127.0.0.1", ShardSettings(snapshot_every_ms=200))
    print(ShardHost(options, stores).start(), flush=True)
    sys.stdin.read()
