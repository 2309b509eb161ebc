"""A link survives the SIGKILL of either shard before and after each of its journalled steps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.embedded import EmbeddedStore
from actors.publishing import Publisher
from actors.router import Router
from actors.supervisor import Supervisor
from actors.valkey import valkey_stores
from engine.book import load_book
from engine.errors import Unavailable
from engine.ids import partition_of
from tests.actors.town import BOOK, scroll
from tests.engine.builders import T0, signal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
N_PARTITIONS = 8
USER = "user:u"


class Shards:
    """Two shard processes over one embedded store, and a router to them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stores = valkey_stores(url)
        self.router = Router(self.stores.table)
        self.processes: dict[int, subprocess.Popen[str]] = {}

    def run(self, index: int, *deadly: str) -> None:
        command = [sys.executable, "-m", "tests.actors.shard_process", str(index), self.url, *deadly]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert ":" in process.stdout.readline()
        self.processes[index] = process

    def end(self, index: int) -> None:
        process = self.processes.pop(index)
        process.kill()
        process.wait(10)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()

    async def ask(self, track: str, op: str, **payload: Any) -> dict[str, Any]:
        return await self.router.ask(track, op, {"track": track, **payload}, timeout_s=15.0)


@pytest.fixture
async def shards(tmp_path: Path) -> AsyncIterator[Shards]:
    store = EmbeddedStore(tmp_path)
    await store.start()
    shards = Shards(store.url)
    state = await Supervisor(shards.stores.table).assign(N_PARTITIONS, 2)
    assert set(state.owners) == {0, 1}
    await Publisher(shards.stores.versions, shards.stores.table, None, lambda: T0).publish_book(load_book(BOOK), "")
    yield shards
    for index in list(shards.processes):
        shards.end(index)
    await shards.router.close()
    await shards.stores.close()
    await store.stop()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["li", "ta", "ld"])
async def test_a_killed_link_is_completed(shards: Shards, when: str, step: str) -> None:
    owners = (await shards.stores.table.read()).owners
    target = owners[partition_of(USER, N_PARTITIONS)]
    anon = next(a for i in range(100) if owners[partition_of(a := f"anon:{i}", N_PARTITIONS)] != target)
    dying = target if step == "ta" else 1 - target
    shards.run(1 - dying)
    shards.run(dying)
    wave = [signal("page").to_list(), scroll(0.9).to_list()]
    assert (await shards.ask(anon, "observe", signals=wave))["results"] == ["accepted", "accepted"]
    shards.end(dying)
    shards.run(dying, f"{when}:{step}")

    with pytest.raises(Unavailable):
        await shards.router.ask(anon, "link", {"track": anon, "to": USER}, timeout_s=1.5)
    assert shards.processes[dying].wait(10) == -9
    shards.end(dying)
    shards.run(dying)

    if (step, when) == ("li", "before"):
        # Nothing of the link was journalled or acknowledged; asked again, it is made.
        assert (await shards.ask(anon, "profile"))["profile"]["identities"] == [anon]
        assert (await shards.ask(anon, "link", to=USER))["linked"] is True
    profile = (await shards.ask(anon, "profile"))["profile"]
    while USER not in profile["identities"]:
        profile = (await shards.ask(anon, "profile"))["profile"]
    assert profile["identities"] == sorted([anon, USER])
    assert profile["n_signals"] == 2
    assert (await shards.ask(anon, "observe", signals=wave))["results"] == ["duplicate", "duplicate"]
    assert (await shards.ask(USER, "profile"))["profile"]["identities"] == profile["identities"]
