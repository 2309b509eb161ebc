"""One real Valkey a test session, on a unix socket of its own, and the stores over it and in memory."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actors.embedded import EmbeddedStore
from actors.memory import memory_stores
from actors.stores import Stores
from actors.valkey import stores_of
from actors.valkey_client import connect
from actors.valkey_journal import ValkeyJournal


@pytest.fixture(scope="session")
def own_valkey() -> Iterator[str]:
    """The address of a server that only this test session uses."""
    directory = Path(tempfile.mkdtemp(prefix="kairos-test-"))
    store = EmbeddedStore(directory)
    asyncio.run(store.start())
    yield store.url
    asyncio.run(store.stop())
    shutil.rmtree(directory)


@pytest.fixture(params=["memory", "valkey", "redis-py"])
def store_kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Which stores are under test, and where they are."""
    return request.param, "" if request.param == "memory" else request.getfixturevalue("own_valkey")


@pytest.fixture
async def stores(store_kind: tuple[str, str]) -> AsyncIterator[Stores]:
    """Empty stores of every kind; "redis-py" appends as it is done where TLS is spoken."""
    kind, url = store_kind
    if kind == "memory":
        yield memory_stores()
        return
    client = connect(url)
    await client.flushall()
    made = stores_of(client)
    yield made if kind == "valkey" else replace(made, journal=ValkeyJournal(client))
    await made.close()
