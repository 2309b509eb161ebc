"""The line for appends: each answer to its own append, whatever was cancelled, stopped or refused meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from actors.append_line import AppendLine, Target
from actors.embedded import EmbeddedStore
from actors.stores import APPENDED, Entry, Fenced, Refused, Uncertain
from actors.valkey_client import connect, journal_key
from actors.valkey_journal import ValkeyJournal


@pytest.fixture
async def store() -> AsyncIterator[EmbeddedStore]:
    directory = Path(tempfile.mkdtemp(prefix="kairos-test-"))
    store = EmbeddedStore(directory)
    await store.start()
    yield store
    await store.stop()
    shutil.rmtree(directory)


def line_to(url: str, timeout_s: float = 10.0) -> AppendLine:
    target = Target.of(connect(url))
    assert target is not None
    return AppendLine(target, timeout_s)


def entry(seq: int, partition: int = 0, size: int = 100) -> Entry:
    return Entry(partition, 1, seq, b"p" * size)


def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def test_appends_that_are_under_way_together_get_their_own_answers(store: EmbeddedStore) -> None:
    line = line_to(store.url)
    batches = [[entry(seq, partition) for partition in range(5)] for seq in range(1, 40)]
    again = [entry(7, partition) for partition in range(3)]
    *results, refused = await asyncio.gather(*(line.append(batch) for batch in [*batches, again]))
    assert results == [[APPENDED] * 5] * len(batches)
    assert [type(result) for result in refused] == [Fenced] * 3
    await line.close()


async def test_a_cancelled_append_takes_its_answers_with_it(store: EmbeddedStore) -> None:
    line = line_to(store.url)
    await line.append([entry(1)])
    cancelled = asyncio.ensure_future(line.append([entry(2), entry(3)]))
    await asyncio.sleep(0)
    cancelled.cancel()
    results = await line.append([entry(3), entry(4), entry(4)])
    assert [type(result) for result in results] == [Fenced, type(APPENDED), Fenced]
    await line.close()


async def test_a_store_that_hangs_makes_the_append_uncertain_and_the_last_position_tells(store: EmbeddedStore) -> None:
    line = line_to(store.url, timeout_s=0.05)
    assert await line.append([entry(1)]) == [APPENDED]
    assert store.pid is not None
    os.kill(store.pid, signal.SIGSTOP)
    results = await line.append([entry(2), entry(3)])
    os.kill(store.pid, signal.SIGCONT)
    assert [type(result) for result in results] == [Uncertain, Uncertain]
    client = connect(store.url)
    journal = ValkeyJournal(client)
    assert await journal.last(0) in [(1, 1), (1, 3)]
    patient = line_to(store.url)
    assert await patient.append([entry(4)]) == [APPENDED]
    await patient.close()
    await line.close()
    await client.aclose()


async def test_it_finds_a_restarted_store_by_itself(store: EmbeddedStore) -> None:
    line = line_to(store.url)
    assert await line.append([entry(1)]) == [APPENDED]
    assert store.pid is not None
    killed(store.pid)
    [result] = await line.append([entry(2)])
    assert isinstance(result, Uncertain)
    await store.start()
    assert await line.append([entry(2)]) == [APPENDED]
    await line.close()


async def test_it_gives_user_password_and_database(store: EmbeddedStore) -> None:
    client = connect(store.url)
    await client.acl_setuser("app", enabled=True, passwords=["+geheim ü"], keys=["*"], categories=["+@all"])
    right = line_to(store.url + "?db=3&username=app&password=geheim%20%C3%BC")
    assert await right.append([entry(1)]) == [APPENDED]
    assert await client.exists(journal_key(0)) == 0
    in_three = connect(store.url + "?db=3")
    assert await in_three.exists(journal_key(0)) == 1
    wrong = line_to(store.url + "?username=app&password=no")
    [result] = await wrong.append([entry(2)])
    assert isinstance(result, Uncertain)
    assert "WRONGPASS" in result.message
    for opened in (right, wrong, client, in_three):
        await (opened.close() if isinstance(opened, AppendLine) else opened.aclose())


async def test_what_the_store_refuses_carries_its_code(store: EmbeddedStore) -> None:
    client, line = connect(store.url), line_to(store.url)
    await client.set(journal_key(1), "not a stream")
    [wrong, fine] = await line.append([entry(1, partition=1), entry(1, partition=2)])
    assert isinstance(wrong, Refused)
    assert wrong.code == "WRONGTYPE"
    assert fine == APPENDED
    await client.aclose()
    await line.close()


async def test_a_megabyte_goes_through(store: EmbeddedStore) -> None:
    client, line = connect(store.url), line_to(store.url)
    assert await line.append([entry(seq, size=1 << 20) for seq in range(1, 9)]) == [APPENDED] * 8
    assert await ValkeyJournal(client).get(0, (1, 8)) == b"p" * (1 << 20)
    await client.aclose()
    await line.close()


def test_it_works_on_uvloop_as_well(own_valkey: str) -> None:
    async def append() -> None:
        line = line_to(own_valkey)
        again = [entry(1, partition=900), entry(1, partition=900)]
        assert isinstance((await line.append(again))[1], Fenced)
        await line.close()

    uvloop.run(append())


def test_where_tls_is_spoken_appends_are_left_to_redis_py() -> None:
    assert Target.of(connect("rediss://store.example:6380/0")) is None
    assert Target.of(connect("redis://store.example:6380/2")) == Target(
        None, "store.example", 6380, (b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n",)
    )
