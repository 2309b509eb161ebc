"""One real Valkey a test session, on a unix socket of its own, and the stores over it and in memory."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from actors.embedded import EmbeddedStore
from actors.memory import memory_stores
from actors.stores import Stores
from actors.valkey import stores_of
from actors.valkey_client import connect


@pytest.fixture(scope="session")
def own_valkey() -> Iterator[str]:
    """The address of a server that only this test session uses."""
    directory = Path(tempfile.mkdtemp(prefix="kairos-test-"))
    store = EmbeddedStore(directory)
    asyncio.run(store.start())
    yield store.url
    asyncio.run(store.stop())
    shutil.rmtree(directory)


@pytest.fixture(params=["memory", "valkey"])
def store_url(request: pytest.FixtureRequest) -> str | None:
    """Where the stores under test are; None is in memory."""
    return request.getfixturevalue("own_valkey") if request.param == "valkey" else None


@pytest.fixture
async def stores(store_url: str | None) -> AsyncIterator[Stores]:
    """Empty stores of every kind."""
    if store_url is None:
        yield memory_stores()
        return
    client = connect(store_url)
    await client.flushall()
    made = stores_of(client)
    yield made
    await made.close()
