"""Many requests in one frame: each is answered for itself, none waits for what holds up another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from actors.bundle import bundled, unbundled
from actors.shard_server import ShardServer
from actors.stream_client import StreamClient
from engine.ids import partition_of
from tests.actors.town import Town, scroll
from tests.engine.builders import signal

SECRET = b"s" * 32
T_S = 20.0
N = 4


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = await Town(n_shards=1, n_partitions=N).start()
    yield town
    await town.stop()


@pytest.fixture
async def client(town: Town) -> AsyncIterator[StreamClient]:
    server = ShardServer(town.shards[0], SECRET, "127.0.0.1")
    client = StreamClient(await server.start(), SECRET)
    yield client
    await client.close()
    await server.stop()


def part(track: str, *signals: Any, partition: int | None = None) -> tuple[int, int, dict[str, Any]]:
    at = partition_of(track, N) if partition is None else partition
    return at, 0, {"track": track, "signals": [one.to_list() for one in signals]}


async def ask(client: StreamClient, *parts: tuple[int, int, dict[str, Any]]) -> list[dict[str, Any]]:
    shared = [{"context": {"device": "mobile"}, "consent": {}, "backfill": False}]
    reply = orjson.loads(await client.request(bundled("observe", shared, parts), T_S))
    answers: list[dict[str, Any]] = reply["answers"]
    return answers


async def test_each_is_answered_in_its_place(client: StreamClient, town: Town) -> None:
    first, again = scroll(0.9), signal("page")
    answers = await ask(client, part("anon:a", first), part("anon:b", first, again), part("anon:a", first))
    assert [answer["results"] for answer in answers] == [["accepted"], ["accepted", "accepted"], ["duplicate"]]
    assert (await town.profile("anon:b"))["n_signals"] == 2


async def test_what_is_wrong_with_one_is_no_matter_of_the_others(client: StreamClient) -> None:
    poison = (partition_of("anon:c", N), 0, {"track": "anon:c", "signals": [["page"]]})
    answers = await ask(client, part("anon:a", signal("page")), poison, part("anon:b", signal("page"), partition=99))
    assert answers[0] == {"results": ["accepted"]}
    assert answers[1]["unavailable"]["code"] == "internal"
    assert answers[2] == {"not_mine": True}


async def test_what_waits_for_a_link_is_told_to_come_alone(client: StreamClient, town: Town) -> None:
    await town.observe("anon:a", signal("page"))
    home = town.shards[0].partitions[partition_of("anon:a", N)]
    home.live["anon:a"].pending_to = "user:u"
    answers = await asyncio.wait_for(ask(client, part("anon:a", scroll(0.5)), part("anon:b", signal("page"))), T_S)
    assert answers[0]["unavailable"]["code"] == "recovering"
    assert answers[1] == {"results": ["accepted"]}
    assert home.live["anon:a"].n_signals == 1


async def test_nonsense_is_refused(client: StreamClient) -> None:
    for frame in (["bundle", ["observe", []], [[0, 0, {}]]], ["bundle", [], []], ["bundle", ["observe", [{}]], [7]]):
        assert "error" in orjson.loads(await client.request(orjson.dumps(frame), T_S))


def test_nobody_is_left_without_an_answer_where_nothing_was_asked() -> None:
    told: list[Any] = []
    assert unbundled(["observe", []], [], told.append) == []
    assert told == [{"answers": []}]
