"""The embedded store: durable under kill -9, one a directory, and never confused by what a killed run left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import psutil
import pytest

from actors.embedded import EmbeddedStore
from actors.embedded_process import find_server, read_record
from actors.stores import APPENDED, Entry, Refused, Uncertain
from actors.valkey import probe_durability, stores_of, valkey_stores
from actors.valkey_client import connect
from engine.errors import Conflict, Unavailable


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="kairos-test-"))
    yield path
    for process in psutil.process_iter(["cmdline"]):  # what a failed test has abandoned
        if any(str(path) in part for part in process.info["cmdline"] or ()):
            process.kill()
    shutil.rmtree(path)


@pytest.fixture
async def store(directory: Path) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(directory)
    await store.start()
    yield store
    await store.stop()


def entries(epoch: int, n: int, size: int = 200) -> list[Entry]:
    return [Entry(seq % 3, epoch, seq, bytes([seq % 256]) * size) for seq in range(1, n + 1)]


def started_and_abandoned(directory: Path) -> int:
    """The pid of a server whose owner was killed before it could stop it."""
    owner = (
        "import asyncio, os, pathlib, sys; from actors.embedded import EmbeddedStore\n"
        "store = EmbeddedStore(pathlib.Path(sys.argv[1])); asyncio.run(store.start())\n"
        "print(store.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    run = subprocess.run([sys.executable, "-c", owner, str(directory)], capture_output=True, text=True, timeout=60)
    assert run.returncode == -signal.SIGKILL, run.stderr
    return int(run.stdout)


def a_stranger() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def wait_for_death(store: EmbeddedStore) -> None:
    assert store.pid is not None
    os.waitid(os.P_PID, store.pid, os.WEXITED | os.WNOWAIT)


async def test_a_started_store_is_durable_and_listens_on_no_port(store: EmbeddedStore) -> None:
    client = connect(store.url)
    assert await probe_durability(client) == []
    await client.aclose()
    assert store.pid is not None
    assert psutil.Process(store.pid).net_connections(kind="inet") == []


async def test_nobody_else_can_read_its_files(store: EmbeddedStore, directory: Path) -> None:
    assert (directory / "store").stat().st_mode & 0o777 == 0o700
    written = [*(directory / "store").rglob("*.aof"), directory / "store" / "valkey.sock"]
    assert len(written) >= 2
    assert [path for path in written if path.stat().st_mode & 0o077] == []


async def test_acknowledged_writes_survive_a_kill(store: EmbeddedStore) -> None:
    stores = valkey_stores(store.url)
    written = entries(3, 300)
    assert await stores.journal.append(written) == [APPENDED] * 300
    assert store.poll() is None
    os.kill(store.pid or 0, signal.SIGKILL)
    wait_for_death(store)
    assert store.poll() == -signal.SIGKILL
    url = store.url
    await store.start()
    assert store.url == url
    held = [(p, pos, b) for p in range(3) for pos, b in await stores.journal.read(p, None, 1000)]
    assert sorted(held) == sorted((e.partition, e.position, e.payload) for e in written)
    results = await stores.journal.append([Entry(0, 2, 999, b"an older epoch")])
    assert results != [APPENDED]
    await stores.close()


async def test_an_append_to_a_dead_server_is_uncertain_and_a_read_unavailable(store: EmbeddedStore) -> None:
    stores = valkey_stores(store.url)
    await stores.journal.append(entries(1, 1))
    os.kill(store.pid or 0, signal.SIGKILL)
    wait_for_death(store)
    results = await stores.journal.append(entries(2, 2))
    assert [type(result) for result in results] == [Uncertain, Uncertain]
    with pytest.raises(Unavailable) as lost:
        await stores.journal.last(0)
    assert lost.value.code == "store_unavailable"
    await stores.close()


async def test_a_full_store_refuses_an_append_and_says_so(store: EmbeddedStore) -> None:
    client = connect(store.url)
    stores = stores_of(client)
    await client.config_set("maxmemory", "1")
    [result] = await stores.journal.append(entries(1, 1))
    assert isinstance(result, Refused)
    assert "maxmemory" in result.message
    assert await stores.journal.last(1) is None
    with pytest.raises(Unavailable) as refused:
        await stores.snapshots.save(0, {"anon:a": b"1"}, [], (1, 1), epoch=1)
    assert refused.value.code == "store_refused"
    await stores.close()


async def test_what_weakens_durability_is_named(store: EmbeddedStore) -> None:
    client = connect(store.url)
    await client.config_set("appendfsync", "everysec")
    await client.config_set("maxmemory-policy", "allkeys-lru")
    problems = await probe_durability(client)
    assert len(problems) == 2
    assert problems[0].startswith("appendfsync everysec, wanted always")
    assert problems[1].startswith("maxmemory-policy allkeys-lru, wanted noeviction")
    await client.aclose()


async def test_a_server_that_hides_its_settings_is_reported_as_unchecked(store: EmbeddedStore) -> None:
    client = connect(store.url)
    await client.acl_setuser("app", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-config"])
    app = connect(store.url + "?username=app&password=any")
    problems = await probe_durability(app)
    assert len(problems) == 1
    assert problems[0].startswith("CONFIG is disabled")
    await app.aclose()
    await client.aclose()


async def test_a_second_start_on_one_directory_names_the_process_that_has_it(
    store: EmbeddedStore, directory: Path
) -> None:
    with pytest.raises(Conflict, match=rf"in use by process {os.getpid()}\b"):
        await EmbeddedStore(directory).start()
    assert store.poll() is None


async def test_stopping_lets_go_of_everything_and_it_can_start_again(directory: Path) -> None:
    store = EmbeddedStore(directory)
    await store.start()
    stores, pid = valkey_stores(store.url), store.pid
    await stores.journal.append(entries(1, 9))
    await stores.close()
    await store.stop()
    assert pid is not None
    assert not alive(pid)
    assert not (directory / "store" / "server.json").exists()
    again = EmbeddedStore(directory)
    await again.start()
    stores = valkey_stores(again.url)
    assert len(await stores.journal.read(0, None, 100)) == 3
    await stores.close()
    await again.stop()


async def test_a_leftover_server_is_ended_and_its_writes_are_there(directory: Path) -> None:
    pid = started_and_abandoned(directory)
    assert alive(pid)
    left = valkey_stores(f"unix://{directory}/store/valkey.sock")
    assert await left.journal.append(entries(1, 30)) == [APPENDED] * 30
    await left.close()
    store = EmbeddedStore(directory)
    await store.start()
    assert not alive(pid)
    assert store.pid != pid
    stores = valkey_stores(store.url)
    assert len(await stores.journal.read(0, None, 100)) == 10
    await stores.close()
    await store.stop()


async def test_a_leftover_is_found_even_when_its_record_is_gone(directory: Path) -> None:
    pid = started_and_abandoned(directory)
    (directory / "store" / "server.json").unlink()
    store = EmbeddedStore(directory)
    await store.start()
    assert not alive(pid)
    await store.stop()


async def test_a_leftover_that_does_not_answer_is_ended_all_the_same(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = started_and_abandoned(directory)
    (directory / "store" / "valkey.sock").unlink()
    store = EmbeddedStore(directory)
    await store.start()
    assert not alive(pid)
    await store.stop()


async def test_a_stranger_who_got_the_recorded_pid_is_left_alone(directory: Path) -> None:
    pid = started_and_abandoned(directory)
    record = directory / "store" / "server.json"
    stranger = a_stranger()
    record.write_text(record.read_text().replace(str(pid), str(stranger.pid)))
    held = read_record(record)
    assert held is not None
    assert held.pid == stranger.pid
    assert held.process() is None
    store = EmbeddedStore(directory)
    await store.start()
    assert stranger.poll() is None
    assert not alive(pid)
    await store.stop()
    stranger.communicate(b"\n")


async def test_a_path_too_long_for_a_socket_is_no_obstacle(directory: Path) -> None:
    deep = directory / ("d" * 60) / ("e" * 60)
    store = EmbeddedStore(deep)
    await store.start()
    socket = Path(store.url.removeprefix("unix://"))
    assert len(str(socket)) < 100
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    stores = valkey_stores(store.url)
    assert await stores.table.next_epoch() == 1
    await stores.close()
    await store.stop()
    assert not socket.parent.exists()
    assert any((deep / "store").rglob("*.aof"))


async def test_a_directory_with_blanks_quotes_and_umlauts_works(directory: Path) -> None:
    store = EmbeddedStore(directory / 'mein "Läden" 100%')
    await store.start()
    stores = valkey_stores(store.url)
    assert await stores.table.next_epoch() == 1
    await stores.close()
    await store.stop()


async def test_loading_a_log_is_waited_for_and_told(directory: Path) -> None:
    store = EmbeddedStore(directory)
    await store.start()
    client = connect(store.url)
    await client.mset({f"key:{i}": Random(i).randbytes(400) for i in range(400)})
    await client.bgrewriteaof()
    while (await client.info("persistence"))["aof_rewrite_in_progress"]:
        pass
    await client.aclose()
    await store.stop()
    slow = directory / "slow-valkey"
    slow.write_text(
        f'#!/bin/sh\nexec "{find_server()}" "$1" --key-load-delay 4000 --loading-process-events-interval-bytes 1024\n'
    )
    slow.chmod(0o700)
    shares: list[float] = []
    store = EmbeddedStore(directory, progress=shares.append, binary=str(slow))
    await store.start()
    client = connect(store.url)
    assert await client.dbsize() == 400
    await client.aclose()
    await store.stop()
    assert shares
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1


async def test_a_damaged_log_ends_the_start_with_the_servers_own_words(directory: Path) -> None:
    store = EmbeddedStore(directory)
    await store.start()
    stores = valkey_stores(store.url)
    await stores.journal.append(entries(1, 300))
    await stores.close()
    await store.stop()
    log = next((directory / "store").rglob("*.incr.aof"))
    content = bytearray(log.read_bytes())
    content[2000:2400] = b"#" * 400
    log.write_bytes(content)
    with pytest.raises(Unavailable, match="Bad file format"):
        await store.start()
    again = EmbeddedStore(directory)
    with pytest.raises(Unavailable):  # and not that the directory is in use: the lock was let go
        await again.start()


async def test_a_binary_that_does_not_run_is_named(directory: Path) -> None:
    store = EmbeddedStore(directory, binary="/bin/false")
    with pytest.raises(Unavailable, match="the embedded store ended"):
        await store.start()
