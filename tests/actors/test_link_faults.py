"""Links when something goes wrong around them: finished, acknowledged when they are, and nobody waits forever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from actors.memory import Fault, MemoryJournal, memory_stores
from engine.errors import Unavailable
from engine.ids import partition_of
from tests.actors.test_links import ANON, SAME, USER, restart
from tests.actors.town import Town, scroll
from tests.engine.builders import signal

HOME = partition_of(ANON, 8)
NEIGHBOUR = next(a for i in range(999) if partition_of(a := f"anon:n{i}", 8) == HOME and a != ANON)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = await Town().start()
    yield town
    await town.stop()


async def held_at_adopt(town: Town, reached: asyncio.Event, gate: asyncio.Event) -> asyncio.Future[dict[str, Any]]:
    """A link whose adoption does not come about before the gate opens."""

    async def hold(op: str, payload: dict[str, Any]) -> None:
        if op == "adopt" and not gate.is_set():
            reached.set()
            await gate.wait()
            raise Unavailable("connection_lost", "it was lost on the way")

    town.on_ask = hold
    link = asyncio.ensure_future(town.link(ANON, USER))
    await reached.wait()
    return link


async def linked(town: Town) -> None:
    async with asyncio.timeout(5):
        while True:
            reply = await town.ask(ANON, "profile", {"track": ANON})
            if reply.get("profile", {}).get("identities") == sorted([ANON, USER]):
                return
            await asyncio.sleep(0)


async def test_a_link_to_a_user_not_in_memory_keeps_what_is_known_of_the_user(town: Town) -> None:
    await town.observe(USER, signal("page"), scroll(0.9))
    await town.observe(SAME, signal("click"))
    await town.stop()
    await town.start()
    assert (await town.link(SAME, USER))["linked"] is True
    assert (await town.profile(USER))["n_signals"] == 3
    await restart(town)
    assert (await town.profile(USER))["n_signals"] == 3


async def test_a_link_is_resumed_when_the_store_fails_at_the_first_attempt(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    await town.observe(ANON, signal("page"))
    await held_at_adopt(town, asyncio.Event(), asyncio.Event())
    load, failures = town.stores.snapshots.load, [1]

    async def failing(keys: Sequence[tuple[int, str]]) -> list[bytes | None]:
        if failures and (HOME, ANON) in keys:
            failures.pop()
            raise Unavailable("store_unavailable", "the store is away")
        return await load(keys)

    monkeypatch.setattr(town.stores.snapshots, "load", failing)
    town.on_ask = None
    for index in (0, 1):
        await town.kill(index)
    for index in (0, 1):
        await town.start_shard(index)
    while failures:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await linked(town)


async def test_a_link_whose_partition_is_claimed_again_is_finished_and_not_acknowledged_before() -> None:
    journal = MemoryJournal()
    town = await Town(memory_stores(journal)).start()
    await town.observe(ANON, signal("page"))
    reached, gate = asyncio.Event(), asyncio.Event()
    link = await held_at_adopt(town, reached, gate)
    journal.fail_next(Fault.REFUSED)
    assert "unavailable" in await town.observe(NEIGHBOUR, signal("page"))
    shard = town.shards[HOME % 2]
    while not shard.partitions[HOME].ready:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()
    acknowledged = await link
    if acknowledged.get("linked"):
        assert "adopted" in await _adopted(town)
    await linked(town)
    await town.stop()


async def _adopted(town: Town) -> str:
    home = partition_of(USER, 8)
    return "adopted" if ANON in town.shards[home % 2].partitions[home].live else "not there"


async def test_who_waits_for_a_link_is_answered_when_the_partition_leaves(town: Town) -> None:
    await town.observe(ANON, signal("page"))
    await held_at_adopt(town, asyncio.Event(), asyncio.Event())
    payload = {"track": ANON, "signals": [scroll(0.9).to_list()]}
    waiting = asyncio.ensure_future(town.shards[HOME % 2].ask("observe", payload, HOME))
    for _ in range(10):
        await asyncio.sleep(0)
    state = await town.stores.table.read()
    owners = tuple(1 - HOME % 2 if p == HOME else owner for p, owner in enumerate(state.owners))
    assert await town.stores.table.compare_and_set(state.version, replace(state, owners=owners))
    async with asyncio.timeout(5):
        assert await waiting == {"not_mine": True}


async def test_who_waits_for_a_link_is_answered_when_the_shard_stops(town: Town) -> None:
    await town.observe(ANON, signal("page"))
    link = await held_at_adopt(town, asyncio.Event(), asyncio.Event())
    shard = town.shards[HOME % 2]
    waiting = asyncio.ensure_future(shard.ask("observe", {"track": ANON, "signals": []}, HOME))
    for _ in range(10):
        await asyncio.sleep(0)
    await shard.stop()
    async with asyncio.timeout(5):
        assert "unavailable" in await waiting
        assert "unavailable" in await link
    assert not [t for t in asyncio.all_tasks() if "_walk" in repr(t)]


async def test_no_more_than_so_many_wait_for_a_link(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.links.MAX_WAITING", 3)
    await town.observe(ANON, signal("page"))
    await held_at_adopt(town, asyncio.Event(), asyncio.Event())
    payload = {"track": ANON, "signals": []}
    asked = [asyncio.ensure_future(town.shards[HOME % 2].ask("observe", payload, HOME)) for _ in range(4)]
    done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result()["unavailable"]["code"] for task in done] == ["overloaded"]
    assert len(waiting) == 3


async def test_the_same_request_gets_the_same_decision_after_a_link(town: Town) -> None:
    first = await town.decide(ANON, request_id="r1")
    await town.link(ANON, USER)
    assert await town.decide(ANON, request_id="r1") == first


async def test_a_request_whose_decision_came_too_late_is_decided_anew(town: Town) -> None:
    first = (await town.decide("anon:a", request_id="r1"))["decision"]["decisionId"]
    await town.ask_partition(int(first.split("_")[1]), "supersede", {"decision_id": first})
    again = await town.decide("anon:a", request_id="r1")
    assert again["decision"]["decisionId"] != first
    assert await town.decide("anon:a", request_id="r1") == again


async def test_a_request_whose_decision_is_beyond_retention_is_decided_anew(town: Town) -> None:
    first = (await town.decide("anon:a", request_id="r1"))["decision"]["decisionId"]
    home = partition_of("anon:a", 8)
    await town.observe("anon:a", signal("page"))
    await town.stores.journal.trim(home, await town.stores.journal.last(home) or (0, 0))
    again = await town.decide("anon:a", request_id="r1")
    assert again["decision"]["recorded"] is True
    assert again["decision"]["decisionId"] != first
    assert await town.decide("anon:a", request_id="r1") == again
