"""The archive on real entries: how small they become, what moving them costs, reading one cold, erasing one visitor."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from actors.archive_folder import FolderArchive
from actors.archive_settings import MIB, ArchiveSettings
from actors.archiver import Archiver
from actors.memory import MemoryJournal
from actors.segment import Row
from actors.segments import Segments
from actors.stores import Entry, Position
from actors.valkey import valkey_stores
from actors.valkey_client import connect, journal_key
from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.load import drive, seconds
from tests.bench.rows import Row as Figure
from tests.bench.rows import at_most, measured

N_PARTITIONS: Final = 64
P: Final = 0
WANTED_BYTES: Final = 64 * MIB
N_READS: Final = 200
SETTINGS: Final = ArchiveSettings(tail_bytes=MIB, hard_bytes=1 << 40)
SMALL_BYTES: Final = 256 * 1024
"""What a quiet partition's segments hold."""


@dataclass
class Tail:
    """A partition whose journal snapshots cover."""

    position: Position
    index: int = P
    epoch: int = 1
    ready: bool = True
    n_written: int = 0

    @property
    def covered(self) -> Position:
        return self.position


def rows(kairos: Kairos) -> list[Figure]:
    """Decide under load, take what the journal then has, and archive it in this process, into files with fsync."""
    drive(kairos.url, shop.decide_bodies(shop.visitors()), 64, 2 * seconds())
    return asyncio.run(_measured(kairos.store))


async def _measured(store: str) -> list[Figure]:
    payloads, journal_bytes = await _entries(store)
    if not payloads:
        raise RuntimeError("the journal is empty")
    one_round = sum(map(len, payloads))
    many = [payload for _ in range(max(1, WANTED_BYTES // one_round)) for payload in payloads]
    with tempfile.TemporaryDirectory(prefix="kairos-bench-") as directory:
        place = Path(directory)
        moved = await _moving(place / "moved", many)
        reads = await _reading(place / "moved", moved)
        erased = await _erasing(place / "moved", many)
        merged = await _merging(place / "merged", many)
    n_bytes = sum(map(len, many))
    return [
        at_most("archive / payload of the entries", moved.archived / n_bytes, "x", 0.2),
        measured("unit cost: archive_ratio", moved.archived / n_bytes * one_round / journal_bytes, "x"),
        measured(f"archiving {n_bytes / MIB:.0f} MiB of {len(many):,} entries", n_bytes / MIB / moved.s, "MiB/s"),
        measured("archiving: CPU an entry", moved.cpu_s / len(many) * 1e6, "µs"),
        measured("one archived entry, nothing known (p50)", statistics.median(reads[0]) * 1e3, "ms"),
        measured("one archived entry, index known (p50)", statistics.median(reads[1]) * 1e3, "ms"),
        *erased,
        *merged,
    ]


async def _entries(store: str) -> tuple[list[bytes], float]:
    """Payloads of the journals of a running Kairos, and what they take in its store."""
    client, stores = connect(store), valkey_stores(store)
    payloads: list[bytes] = []
    held = 0.0
    try:
        for partition in range(N_PARTITIONS):
            after: Position | None = None
            while found := await stores.journal.read(partition, after, 500):
                payloads += [payload for _, payload in found if len(payload) > 4]
                after = found[-1][0]
            held += await client.memory_usage(journal_key(partition), samples=0) or 0
    finally:
        await client.aclose()
        await stores.close()
    return payloads, held


@dataclass
class Moved:
    """What moving the entries took, and how they were placed."""

    s: float
    cpu_s: float
    archived: int
    last: int


def sizes(place: Path) -> list[int]:
    """Bytes of each segment."""
    return [path.stat().st_size for path in place.rglob("*.kseg")]


async def _moving(place: Path, payloads: Sequence[bytes]) -> Moved:
    journal = MemoryJournal()
    await journal.append([Entry(P, 1, seq, payload) for seq, payload in enumerate(payloads, 1)])
    archiver = Archiver(journal, FolderArchive(place), SETTINGS, lambda: time.time_ns() // 1_000_000)
    began, cpu = time.perf_counter(), time.process_time()
    while await archiver.turn(Tail((1, len(payloads)))):
        pass
    took, used = time.perf_counter() - began, time.process_time() - cpu
    last = await archiver.segments.last(P)
    assert last is not None
    archived = sum(sizes(place))
    # The tail keeps its share; figures are for what was moved.
    share = last[1] / len(payloads)
    return Moved(took / share, used / share, round(archived / share), last[1])


async def _reading(place: Path, moved: Moved) -> tuple[list[float], list[float]]:
    dice, known = random.Random(3), Segments(FolderArchive(place))
    cold: list[float] = []
    warm: list[float] = []
    for i in range(N_READS):
        position = (1, dice.randint(1, moved.last))
        for segments, times in ((Segments(FolderArchive(place)), cold), (known, warm)):
            began = time.perf_counter()
            assert await segments.get(P, position) is not None
            if segments is not known or i > N_READS // 4:
                times.append(time.perf_counter() - began)
    return cold, warm


async def _erasing(place: Path, payloads: Sequence[bytes]) -> list[Figure]:
    """One visitor goes from every segment, as an erasure does it."""
    named = Counter(record[1] for payload in payloads[:2_000] for record in orjson.loads(payload)[1:])
    track, _ = named.most_common(1)[0]
    archiver = Archiver(MemoryJournal(), FolderArchive(place), SETTINGS, lambda: 0)
    n_segments = len(await archiver.segments.names(P))
    began = time.perf_counter()
    removed = await archiver.redact(Tail((1, 0)), [track], lambda _position, _index, record: record[1] == track)
    took = time.perf_counter() - began
    return [
        measured(f"erasing a visitor from {n_segments} segments ({removed} records)", took * 1e3, "ms"),
        measured("erasing: a segment", took / max(1, n_segments) * 1e3, "ms"),
    ]


async def _merging(place: Path, payloads: Sequence[bytes]) -> list[Figure]:
    """Small segments, as a quiet partition leaves them, merged until nothing is left to merge."""
    archive = FolderArchive(place)
    archiver = Archiver(MemoryJournal(), archive, SETTINGS, lambda: 0)
    block: list[Row] = []
    size = n_small = 0
    for seq, payload in enumerate(payloads[: len(payloads) // 4], 1):
        block.append(((1, seq), payload))
        size += len(payload)
        if size >= SMALL_BYTES:
            await archiver.segments.add(P, 1, block, 0)
            block, size, n_small = [], 0, n_small + 1
    held = sum(sizes(place))
    began, cpu = time.perf_counter(), time.process_time()
    while await archiver.upkeep.merge(P, 1, SETTINGS.merged_bytes, 1 << 60):
        pass
    took, used = time.perf_counter() - began, time.process_time() - cpu
    left = sizes(place)
    return [
        measured(f"merging {n_small} small segments into {len(left)}", held / MIB / took, "MiB/s"),
        measured("merging: CPU", used / (held / MIB) * 1e3, "ms/MiB"),
        at_most("merged / small segments, bytes", sum(left) / held, "x", 1.0),
    ]
