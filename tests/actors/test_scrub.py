"""What was redacted is neither in the store's memory nor in its files, and nothing else has changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

from actors.archive import MemoryArchive
from actors.archive_settings import ArchiveSettings
from actors.archiver import Archiver
from actors.embedded import EmbeddedStore
from actors.scrubbing import Scrubbing
from actors.stores import APPENDED, Entry
from actors.valkey import stores_of
from actors.valkey_client import connect
from actors.valkey_journal import ValkeyJournal
from actors.valkey_scrub import ValkeyScrub
from engine.errors import Unavailable
from tests.actors.town import Town
from tests.engine.builders import signal

P = 1
SECRET = Random(1).randbytes(300)  # no compression shortens it, so that it can be looked for


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Redis]:
    store = EmbeddedStore(tmp_path)
    await store.start()
    client = connect(store.url)
    yield client
    await client.aclose()
    await store.stop()


def is_in_files(tmp_path: Path, secret: bytes = SECRET) -> bool:
    """Whether a part of it, long enough to be no chance, is in the store's log; also while files come and go."""
    try:
        blobs = [path.read_bytes() for path in tmp_path.rglob("appendonlydir/*")]
    except FileNotFoundError:
        return True
    return any(secret[i : i + 12] in blob for i in range(0, 228, 12) for blob in blobs)


async def gone_from_files(tmp_path: Path, secret: bytes = SECRET) -> None:
    """Wait until it is in no file; an old log is deleted beside the server's loop."""
    async with asyncio.timeout(30):
        while True:
            if not is_in_files(tmp_path, secret):
                return
            await asyncio.sleep(0.02)


async def rewritten(client: Redis, wanted: int) -> None:
    """Wait until the log has been rewritten so many times, and the old one has been deleted."""
    async with asyncio.timeout(30):
        while True:
            facts = await client.info("persistence")
            under_way = facts["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"]
            if not under_way and facts["aof_rewrites"] >= wanted and not facts.get("aof_pending_bio_fsync"):
                return
            await asyncio.sleep(0.01)


async def test_redacted_bytes_leave_the_log_while_appends_go_on(client: Redis, tmp_path: Path) -> None:
    stores = stores_of(client)
    journal, dice = stores.journal, Random(2)
    entries = [Entry(P, 1, seq, SECRET if seq == 40 else dice.randbytes(800)) for seq in range(1, 801)]
    assert await journal.append(entries) == [APPENDED] * 800
    await journal.redact(P, (1, 40), b"redacted")
    await client.bgrewriteaof()
    await rewritten(client, 1)
    assert is_in_files(tmp_path), "without a scrub the bytes stay in the stream's node"

    archiver = Archiver(journal, MemoryArchive(), ArchiveSettings(), lambda: 0, ValkeyScrub(client))
    await archiver.scrubbing.soon(P)
    scrubbing = asyncio.ensure_future(archiver.scrubbing.step(archiver.lock))
    more = [Entry(P, 1, seq, b"more") for seq in range(801, 900)]
    for entry in more:
        assert await journal.append([entry]) == [APPENDED]
    await scrubbing
    await rewritten(client, 2)
    await gone_from_files(tmp_path)
    expected = [((e.epoch, e.seq), b"redacted" if e.seq == 40 else e.payload) for e in [*entries, *more]]
    assert await journal.read(P, None, 1000) == expected
    await stores.close()


async def test_a_scrubbed_stream_still_refuses_earlier_positions(client: Redis) -> None:
    journal = ValkeyJournal(client)
    await journal.append([Entry(P, 1, 1, b"a"), Entry(P, 3, 0, b"b")])
    await journal.redact(P, (3, 0), None)
    await ValkeyScrub(client).scrub(P)
    assert await journal.last(P) == (3, 0)
    [result] = await journal.append([Entry(P, 2, 9, b"late")])
    assert result != APPENDED
    assert await journal.append([Entry(P, 3, 1, b"c")]) == [APPENDED]


@pytest.mark.parametrize("n_left", [0, 1])
async def test_an_empty_or_absent_stream_can_be_scrubbed(client: Redis, n_left: int) -> None:
    journal = ValkeyJournal(client)
    await ValkeyScrub(client).scrub(P)
    await journal.append([Entry(P, 1, 1, b"a"), Entry(P, 1, 2, b"b")])
    await journal.trim(P, (1, 3 - n_left))
    await ValkeyScrub(client).scrub(P)
    assert await journal.last(P) == (1, 2)
    assert (await journal.size(P))[0] == n_left


async def test_an_entry_redacted_while_the_stream_is_copied_does_not_come_back(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, scrub = ValkeyJournal(client), ValkeyScrub(client)
    await journal.append([Entry(P, 1, seq, b"x") for seq in range(1, 500)])
    finish, interfered = scrub._finish, []

    async def interfere(**given: object) -> object:
        if not interfered:
            interfered.append(await journal.redact(P, (1, 7), None))
        return await finish(**given)

    monkeypatch.setattr(scrub, "_finish", interfere)
    await scrub.scrub(P)
    assert [seq for (_, seq), _ in await journal.read(P, None, 1000)] == [s for s in range(1, 500) if s != 7]


async def test_what_an_erased_visitor_sent_is_in_no_file_of_the_store_any_more(client: Redis, tmp_path: Path) -> None:
    town = Town(stores_of(client), n_shards=1, n_partitions=2)
    town.archive, town.archiving = MemoryArchive(), ArchiveSettings(every_ms=1, scrub_every_ms=0)
    await town.start()
    secret = SECRET.hex()[:240]
    for i in range(50):
        await town.observe(f"anon:{i}", signal("page", url=f"https://shop.example/{i}"))
        await town.observe("anon:erased", signal("page", url=f"https://shop.example/{secret}", message=i))
    assert is_in_files(tmp_path, secret.encode())
    await town.ask("anon:erased", "erase", {"track": "anon:erased"})
    await gone_from_files(tmp_path, secret.encode())
    assert (await town.profile("anon:49"))["n_signals"] == 1
    await town.stop()
    await town.stores.close()


async def test_a_scrub_that_a_crash_cut_off_is_made_by_the_next_owner(client: Redis, tmp_path: Path) -> None:
    journal = ValkeyJournal(client)
    await journal.append([Entry(P, 1, 1, SECRET), Entry(P, 1, 2, b"x" * 50)])
    await journal.redact(P, (1, 1), None)
    crashed = Scrubbing(ValkeyScrub(client), 60_000, lambda: 0)
    await crashed.soon(P)

    locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
    now_ms = 10**12
    next_owner = Scrubbing(ValkeyScrub(client), 60_000, lambda: now_ms)
    await next_owner.claimed(P)
    await next_owner.step(locks.__getitem__)
    await rewritten(client, 1)
    await gone_from_files(tmp_path)
    assert not await ValkeyScrub(client).noted(P)


class Slow:
    """A scrub that stops before the rewrite until it may go on; `fails` makes its next rewrite fail."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.notes: set[int] = set()
        self.gate, self.reached = asyncio.Event(), asyncio.Event()
        self.fails = False

    async def note(self, partition: int) -> None:
        self.notes.add(partition)

    async def noted(self, partition: int) -> bool:
        return partition in self.notes

    async def forget(self, partition: int) -> None:
        self.notes.discard(partition)

    async def scrub(self, partition: int) -> None:
        self.done.append(partition)

    async def rewrite(self) -> None:
        self.reached.set()
        await self.gate.wait()
        if self.fails:
            self.fails = False
            raise Unavailable("log_busy", "being rewritten already")


async def test_what_is_redacted_while_a_scrub_is_under_way_is_scrubbed_too() -> None:
    scrub, now_ms = Slow(), 10**12
    scrubbing, locks = Scrubbing(scrub, 1_000, lambda: now_ms), defaultdict[int, asyncio.Lock](asyncio.Lock)
    await scrubbing.soon(P)
    step = asyncio.ensure_future(scrubbing.step(locks.__getitem__))
    await scrub.reached.wait()
    await scrubbing.soon(P)
    scrub.gate.set()
    await step
    assert (scrub.done, scrub.notes) == ([P], {P})
    now_ms += 1_000
    await scrubbing.step(locks.__getitem__)
    assert (scrub.done, scrub.notes) == ([P, P], set())


async def test_a_scrub_that_failed_is_tried_again_and_so_it_is_when_the_clock_goes_back() -> None:
    scrub, now_ms = Slow(), 10**12
    scrub.gate.set()
    scrub.fails = True
    scrubbing, locks = Scrubbing(scrub, 60_000, lambda: now_ms), defaultdict[int, asyncio.Lock](asyncio.Lock)
    await scrubbing.soon(P)
    with pytest.raises(Unavailable):
        await scrubbing.step(locks.__getitem__)
    assert scrub.notes == {P}
    now_ms -= 10**9
    await scrubbing.step(locks.__getitem__)
    assert (scrub.done, scrub.notes) == ([P, P], set())
