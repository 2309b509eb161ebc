"""Experiments over HTTP: nobody reads the journal until somebody asks, and then beside the hot path."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from actors.experiments_board import PROGRESS, RESULTS, WANTED, ExperimentBoard, ExperimentsHost
from actors.memory import memory_stores
from engine.ids import message_hash
from engine.signals import Signal
from serving.app import build_app
from serving.keys import KeyRing
from serving.settings import Settings
from tests.actors.test_experiments import BOOK_WITH
from tests.actors.town import Town
from tests.engine.builders import MINUTE, T0


async def test_a_request_is_answered_by_the_host_and_kept_for_the_next() -> None:
    town = await Town(memory_stores(), n_partitions=2).start(BOOK_WITH)
    for n in range(8):
        scroll = Signal("scroll", T0, message_hash(b"k", f"s{n}"), {"share": 0.65})
        await town.observe(f"anon:{n}", scroll)
        await town.decide(f"anon:{n}")
    town.clock.now_ms += 30 * MINUTE
    host = ExperimentsHost("", None, lambda url: town.stores, town.clock, every_s=0.01)
    await asyncio.to_thread(host.start)
    assert await town.stores.documents.get(RESULTS) is None
    board = ExperimentBoard(town.stores.documents, town.clock, patience_s=20)
    found = await board.read()
    assert found["asOfMs"] == town.clock.now_ms
    assert not found["pending"]
    (told,) = found["experiments"]
    assert sum(v["exposed"] for v in told["variants"]) == 8
    asked = await town.stores.documents.get(WANTED)
    assert await board.read() == found
    assert await town.stores.documents.get(WANTED) == asked
    await asyncio.to_thread(host.stop)
    await town.stop()


async def test_without_an_answer_in_time_what_is_known_is_told_as_pending() -> None:
    stores, now = memory_stores(), [T0]
    board = ExperimentBoard(stores.documents, lambda: now[0], patience_s=0.01)
    assert await board.read() == {"experiments": [], "asOfMs": None, "pending": True}
    await stores.documents.compare_and_set(RESULTS, 0, {"experiments": [], "asOfMs": T0})
    now[0] += MINUTE
    assert await board.read() == {"experiments": [], "asOfMs": T0, "pending": True}


async def test_while_a_long_journal_is_read_it_is_told_how_far() -> None:
    town = await Town(memory_stores(), n_partitions=2).start(BOOK_WITH)
    for n in range(8):
        await town.decide(f"anon:{n}")
    start_ms, turns = town.clock.now_ms, itertools.count()
    host = ExperimentsHost("", None, lambda url: town.stores, lambda: start_ms + 1_000 * next(turns), every_s=0.01)
    await asyncio.to_thread(host.start)
    board = ExperimentBoard(town.stores.documents, town.clock, patience_s=20)
    assert "progress" not in await board.read()
    told = await town.stores.documents.get(PROGRESS)
    assert told is not None
    assert told[1]["share"] in (0.0, 0.5)
    town.clock.now_ms = told[1]["at_ms"] + 9_000
    await asyncio.to_thread(host.stop)
    await town.stores.documents.delete(RESULTS)
    hasty = ExperimentBoard(town.stores.documents, town.clock, patience_s=0.01)
    expected = {"experiments": [], "asOfMs": None, "pending": True, "progress": told[1]["share"]}
    assert await hasty.read() == expected
    town.clock.now_ms += MINUTE
    assert "progress" not in await hasty.read()
    await town.stop()


@pytest.mark.parametrize("there", [True, False])
async def test_the_route_gives_the_results_or_says_that_nobody_evaluates(there: bool) -> None:
    import httpx

    from tests.serving.house import House

    class Results:
        async def read(self) -> dict[str, object]:
            return {"experiments": [{"experiment": "a.b"}], "asOfMs": 1, "pending": False}

    house = House()
    app = build_app(
        house.asks, house.worlds, Settings(), KeyRing.load(Settings(), {}), clock=lambda: T0, message_key=b"k",
        experiments=Results() if there else None,
    )  # fmt: skip
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://k") as client:
        answer = await client.get("/v1/experiments")
    assert answer.status_code == (200 if there else 503)
    body = json.loads(answer.content)
    assert body["experiments"] == [{"experiment": "a.b"}] if there else body["code"] == "no_experiments"
