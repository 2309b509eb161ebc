"""Budgets survive the SIGKILL of shard processes: never a unit too many, and what was leased comes back."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from actors.embedded import EmbeddedStore
from actors.ledger import Ledger
from actors.publishing import Publisher
from actors.supervisor import Supervisor
from engine.book import load_book
from engine.errors import KairosError
from tests.actors.test_link_kills import N_PARTITIONS, Shards
from tests.actors.town import BOOK
from tests.engine.builders import T0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

BUDGET = 150
N_KILLS = 4


def book() -> dict[str, Any]:
    data = copy.deepcopy(BOOK)
    offer = {"content": "x", "value": 30, "cost": 1, "budget": {"max": BUDGET, "unit": "servings"}}
    data["campaigns"]["cart"]["offers"] = {"rare": offer}
    return data


@pytest.fixture
async def shards(tmp_path: Path) -> AsyncIterator[Shards]:
    store = EmbeddedStore(tmp_path)
    await store.start()
    shards = Shards(store.url)
    await Supervisor(shards.stores.table).assign(N_PARTITIONS, 2)
    await Publisher(shards.stores.versions, shards.stores.table, None, lambda: T0).publish_book(load_book(book()), "")
    yield shards
    for index in list(shards.processes):
        shards.end(index)
    await shards.router.close()
    await shards.stores.close()
    await store.stop()


async def test_a_budget_is_never_overspent_and_is_spent_to_the_last_through_kills(shards: Shards) -> None:
    dice, served, n = Random(5), 0, 0
    shards.run(0)
    shards.run(1)

    async def one(i: int) -> bool:
        payload = {"placement": "product_page", "context": {}, "limit": 1}
        with suppress(KairosError):
            reply = await shards.router.ask(f"anon:{i}", "decide", {"track": f"anon:{i}", **payload}, timeout_s=3.0)
            return any(item["id"] == "rare" for item in reply.get("decision", {}).get("items", ()))
        return False

    for _ in range(N_KILLS):
        aim = served + BUDGET // (2 * N_KILLS)
        while served < aim:
            wave = [asyncio.create_task(one(i)) for i in range(n, n + 20)]
            n += 20
            if served + 10 > aim:
                # In the middle of a wave, so that some answers are lost on their way.
                await asyncio.sleep(0)
                shards.end(dying := dice.randrange(2))
                served += sum(await asyncio.gather(*wave))
                shards.run(dying)
                break
            served += sum(await asyncio.gather(*wave))
    ledger, dry = Ledger(shards.stores.documents), 0
    while dry < 40:
        got = sum(await asyncio.gather(*(one(i) for i in range(n, n + 20))))
        served, n, dry = served + got, n + 20, 0 if got else dry + 1
        account = next(iter((await ledger.accounts()).values()))
        if len(await ledger.lives()) == 2 and account.given == BUDGET and not got:
            dry += 4
        await asyncio.sleep(0.1)
    on_record = await recorded(shards)
    print(
        f"served {served}, on record {on_record}, given out {account.given:g} of {BUDGET}; unused {BUDGET - on_record}"
    )
    assert served <= on_record <= BUDGET
    # Every dead life is settled, and nothing is left of what it had leased.
    assert len(await ledger.lives()) == 2
    assert on_record == BUDGET


async def recorded(shards: Shards) -> int:
    """How many decisions in the journals show the offer."""
    import orjson

    n = 0
    for partition in range(N_PARTITIONS):
        for _, payload in await shards.stores.journal.read(partition, None, 100_000):
            n += sum(r is not None and r[0] == "d" and "cart.rare" in r[8][20] for r in orjson.loads(payload)[1:])
    return n
