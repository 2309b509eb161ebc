"""Bots by behaviour in a shard: marked as they are found out, counted nowhere, the same after a rebuild."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from engine.record import BOT, ROBOTIC
from tests.actors.town import Town, scroll
from tests.engine.builders import T0, signal

ANON = "anon:crawler"


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = await Town().start()
    yield town
    await town.stop()


async def crawl(town: Town, first: int, n: int) -> None:
    await town.observe(ANON, *(signal("page", T0 + i * 300, message=i + 1) for i in range(first, first + n)))


async def flags(town: Town) -> list[int]:
    found: list[Any] = []
    for partition in range(town.n_partitions):
        for _, payload in await town.stores.journal.read(partition, None, 1000):
            found += [r[3] for r in orjson.loads(payload)[1:] if r[0] == "s"]
    return found


async def test_what_follows_the_verdict_is_marked_and_a_rebuild_comes_to_the_same(town: Town) -> None:
    await crawl(town, 0, 20)
    assert (await town.profile(ANON))["bot"] is True
    await crawl(town, 20, 5)
    assert await flags(town) == [0, BOT | ROBOTIC]
    before = await town.profile(ANON)
    for index in range(town.n_shards):
        await town.kill(index)
        await town.start_shard(index)
    assert await town.profile(ANON) == before


async def test_a_robot_gets_tier_1s_order_and_leaves_its_segments(town: Town) -> None:
    await town.observe(ANON, scroll(0.9, T0 - 1_000_000))
    assert (await town.profile(ANON))["segments"]
    town.clock.now_ms += 7_200_000
    later = [signal("page", T0 + 3_600_000 + i * 300, message=100 + i) for i in range(25)]
    await town.observe(ANON, *later)
    assert (await town.profile(ANON))["segments"] == {}
    told = (await town.decide(ANON, base=[{"id": "b"}]))["decision"]
    assert (told["reason"], [i["id"] for i in told["items"]], told["segments"]) == ("BOT", ["b"], [])


async def test_who_scrolls_after_opening_many_pages_at_once_is_acquitted_for_good(town: Town) -> None:
    await crawl(town, 0, 20)
    await town.observe(ANON, scroll(0.9, T0 + 7_000))
    assert (await town.profile(ANON))["bot"] is False
    await town.observe(ANON, signal("click", T0 + 8_000))
    assert await flags(town) == [0, BOT | ROBOTIC, 0]
