"""A shard with 100,000 profiles is killed: when it decides again, and when everything it owned is back."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress

import httpx
import orjson
import psutil

from actors.valkey import valkey_stores
from engine.ids import anon_track, partition_of
from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.rows import Row, at_most, measured
from tests.serving.running import Running

N_PROFILES = 100_000
PER_REQUEST = 100
SENDERS = 8
ASKERS = 4
ASK_DEADLINE_MS = 50
GIVE_UP_S = 60.0


def rows() -> list[Row]:
    """Fill one of two shards, end its process by SIGKILL, ask for visitors of each of its partitions."""
    n = int(os.environ.get("BENCH_PROFILES", N_PROFILES))
    with Kairos(shop.model(), "--shards", "2") as kairos:
        assert kairos.running is not None
        owned, port = asyncio.run(_owned(kairos.store))
        by_partition = _fill(kairos.running, owned, n)
        victim = _listener(kairos, port)
        tail = asyncio.run(_uncovered(kairos.store, owned))
        began = time.monotonic()
        victim.kill()
        back = _ask(kairos.running, by_partition, began)
        covered_s = asyncio.run(_until_covered(kairos.store, owned, began))
    whole = max(back.values()) if len(back) == len(by_partition) else None
    return [
        measured("recovery: profiles in the killed shard", float(sum(map(len, by_partition.values()))), "profiles"),
        measured("recovery: journal entries that no snapshot covered", float(tail), "entries"),
        at_most("recovery: kill to first full decision", min(back.values(), default=None), "s", 2.5),
        at_most("recovery: kill to the tail read and every partition deciding", whole, "s", 5),
        measured("recovery: kill to every touched profile in a snapshot again", covered_s, "s"),
    ]


async def _owned(store: str) -> tuple[set[int], int]:
    """The partitions of shard 0 and the port on which it listens."""
    stores = valkey_stores(store)
    try:
        state = await stores.table.read()
    finally:
        await stores.close()
    port = int(state.addresses[0].rpartition(":")[2])
    return {p for p, owner in enumerate(state.owners) if owner == 0}, port


def _listener(kairos: Kairos, port: int) -> psutil.Process:
    for process in kairos.running.shards() if kairos.running is not None else []:
        with suppress(psutil.Error):
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp")):
                return process
    raise RuntimeError(f"no shard listens on port {port}")


def _fill(running: Running, owned: set[int], n: int) -> dict[int, list[str]]:
    """So many visitors of these partitions, one page view each, through `/v1/batch`."""
    by_partition: dict[int, list[str]] = {p: [] for p in owned}
    names = []
    number = 0
    while len(names) < n:
        name = f"8f14e45f-ceea-467f-b0e6-{number:012d}"
        number += 1
        home = partition_of(anon_track(name), 64)
        if home in owned:
            by_partition[home].append(name)
            names.append(name)
    chunks, lock = iter([names[at : at + PER_REQUEST] for at in range(0, n, PER_REQUEST)]), threading.Lock()
    failed: list[str] = []

    def send() -> None:
        with httpx.Client(base_url=running.url, timeout=30.0, trust_env=False) as http:
            while True:
                with lock:
                    chunk = next(chunks, None)
                if chunk is None or failed:
                    return
                events = [
                    {
                        "type": "page",
                        "anonymousId": name,
                        "messageId": "p1",
                        "properties": {"url": "/p", "height_px": 2000},
                    }
                    for name in chunk
                ]
                reply = http.post("/v1/batch", content=orjson.dumps({"batch": events}))
                if reply.status_code != 200 or reply.json()["accepted"] != len(chunk):
                    failed.append(reply.text[:300])

    _together(send, SENDERS)
    if failed:
        raise RuntimeError(f"the shard could not be filled: {failed[0]}")
    return by_partition


def _ask(running: Running, by_partition: dict[int, list[str]], began: float) -> dict[int, float]:
    """Seconds from the kill to the first full, recorded decision in each partition."""
    waiting = {p: names[0] for p, names in by_partition.items() if names}
    back: dict[int, float] = {}
    lock = threading.Lock()
    turns = iter(range(ASKERS))

    def ask() -> None:
        with lock:
            turn = next(turns)
        mine = dict(list(waiting.items())[turn::ASKERS])
        with httpx.Client(base_url=running.url, timeout=5.0, trust_env=False) as http:
            while mine and time.monotonic() - began < GIVE_UP_S:
                for partition, name in list(mine.items()):
                    body = {"anonymousId": name, "placement": "product_page", "deadlineMs": ASK_DEADLINE_MS}
                    with suppress(httpx.HTTPError):
                        reply = http.post("/v1/decide", json=body)
                        if reply.status_code == 200 and reply.json()["recorded"] and not reply.json()["degraded"]:
                            with lock:
                                back[partition] = time.monotonic() - began
                            del mine[partition]

    _together(ask, ASKERS)
    return back


def _together(work: object, n: int) -> None:
    assert callable(work)
    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def _uncovered(store: str, owned: set[int]) -> int:
    """How many entries a recovery has to read."""
    stores = valkey_stores(store)
    n = 0
    try:
        for partition in owned:
            after = await stores.snapshots.covered(partition)
            while rows := await stores.journal.read(partition, after, 500):
                n, after = n + len(rows), rows[-1][0]
    finally:
        await stores.close()
    return n


async def _until_covered(store: str, owned: set[int], began: float) -> float | None:
    """Until snapshots of every partition reach into the new epoch."""
    stores = valkey_stores(store)
    try:
        while time.monotonic() - began < GIVE_UP_S:
            reached = [await stores.snapshots.covered(p) for p in owned]
            lasts = [await stores.journal.last(p) for p in owned]
            if all(c is not None and e is not None and c[0] == e[0] for c, e in zip(reached, lasts, strict=True)):
                return time.monotonic() - began
            await asyncio.sleep(0.1)
    finally:
        await stores.close()
    return None
