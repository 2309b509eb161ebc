"""What an append costs: `python -m tests.bench.journal` (41 entries of 1.2 KB, fsync always, its own Valkey)."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import uvloop

from actors.embedded import EmbeddedStore
from actors.stores import APPENDED, Entry, Journal
from actors.valkey import stores_of
from actors.valkey_client import connect
from actors.valkey_journal import ValkeyJournal


async def measure(name: str, journal: Journal, epoch: int, n_entries: int, n_batches: int) -> None:
    lasted = []
    cpu_s = time.process_time()
    for seq in range(1, n_batches + 1):
        began = time.perf_counter()
        results = await journal.append([Entry(p, epoch, seq, b"x" * 1200) for p in range(n_entries)])
        lasted.append(time.perf_counter() - began)
        assert results == [APPENDED] * n_entries
    cpu_us = (time.process_time() - cpu_s) / n_batches * 1e6
    lasted.sort()
    p50, p99 = (lasted[int(n_batches * share)] * 1e6 for share in (0.5, 0.99))
    print(f"{name:9} {n_entries:3} entries: p50 {p50:5.0f} µs  p99 {p99:5.0f} µs  CPU here {cpu_us:4.0f} µs a batch")


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kairos-bench-") as directory:
        store = EmbeddedStore(Path(directory))
        await store.start()
        client = connect(store.url)
        stores = stores_of(client)
        for epoch, (n_entries, n_batches) in enumerate([(1, 2000), (41, 500), (1, 2000), (41, 500)], start=1):
            await measure("redis-py", ValkeyJournal(client), 2 * epoch, n_entries, n_batches)
            await measure("line", stores.journal, 2 * epoch + 1, n_entries, n_batches)
        await stores.close()
        await store.stop()


if __name__ == "__main__":
    uvloop.run(main())
