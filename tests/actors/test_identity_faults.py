"""A profile of several identities on its way to a user, cut off anywhere: recovery brings all of it there, once."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from engine.errors import Unavailable
from engine.ids import partition_of
from tests.actors.test_identities import EMAIL, USER, erased, join, restart, texts
from tests.actors.town import Town
from tests.engine.builders import T0, signal

MEMBERS = ["anon:m1", "anon:m2", "device:m3"]
EVERYBODY = sorted([EMAIL, USER, *MEMBERS])
N_MOVES = len(MEMBERS) + 1


async def a_family() -> Town:
    """An address with three visitors of its own, and a user who has been seen as well."""
    town = await Town(n_partitions=16).start()
    for n, track in enumerate([EMAIL, USER, *MEMBERS]):
        await town.observe(track, signal("page", T0 + n * 1000, message=n + 1, url=f"/{n}"))
    for member in MEMBERS:
        assert (await join(town, member, EMAIL))["linked"] is True
    return town


async def kill(town: Town, index: int) -> None:
    """As `Town.kill`; again where a task did not hear it: `asyncio.wait_for` (3.11) may swallow a cancellation."""
    shard = town.shards.pop(index)
    while tasks := [task for task in shard._tasks if not task.done()]:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.05)


async def together(town: Town) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            replies = [await town.ask(track, "profile", {"track": track}) for track in EVERYBODY]
            if all(reply.get("profile", {}).get("identities") == EVERYBODY for reply in replies):
                return dict(replies[0]["profile"])
            await asyncio.sleep(0)


@pytest.mark.parametrize("delivered", [False, True])
@pytest.mark.parametrize("cut", range(1, N_MOVES + 1))
async def test_a_move_that_is_cut_off_at_any_adoption_is_finished_by_recovery(cut: int, delivered: bool) -> None:
    town = await a_family()
    n_adopts, died = 0, asyncio.Event()

    async def cutting(op: str, payload: dict[str, Any]) -> None:
        nonlocal n_adopts
        if op != "adopt" or died.is_set():
            if died.is_set() and op == "adopt":
                raise Unavailable("connection_lost", "the shard is dead")
            return
        n_adopts += 1
        if n_adopts == cut:
            if delivered:
                home = partition_of(payload["root"], town.n_partitions)
                await town.shards[home % town.n_shards].ask("adopt", orjson.loads(orjson.dumps(payload)), home)
            died.set()
            raise Unavailable("connection_lost", "the shard died")

    town.on_ask = cutting
    link = asyncio.ensure_future(join(town, EMAIL, USER))
    await died.wait()
    for index in range(town.n_shards):
        await kill(town, index)
    link.cancel()
    await asyncio.gather(link, return_exceptions=True)
    town.on_ask = None
    for index in range(town.n_shards):
        await town.start_shard(index)
    profile = await together(town)
    assert profile["n_signals"] == len(EVERYBODY)
    again = await town.observe("anon:m1", signal("page", T0 + 2000, message=3, url="/2"))
    assert again["results"] == ["duplicate"]
    await restart(town)
    assert await together(town) == profile
    await town.stop()


async def test_who_links_to_an_address_that_is_just_moving_ends_up_with_it() -> None:
    town = await a_family()
    gate, reached = asyncio.Event(), asyncio.Event()

    async def hold(op: str, payload: dict[str, Any]) -> None:
        if op == "adopt" and payload["track"] == EMAIL and not gate.is_set():
            reached.set()
            await gate.wait()

    town.on_ask = hold
    moving = asyncio.ensure_future(join(town, EMAIL, USER))
    await reached.wait()
    late = asyncio.ensure_future(join(town, "anon:late", EMAIL))
    await asyncio.sleep(0)
    gate.set()
    assert (await moving)["linked"] is True
    assert (await late)["linked"] is True
    assert (await town.profile("anon:late"))["identities"] == sorted([*EVERYBODY, "anon:late"])
    await erased(town, USER)
    told = await texts(town)
    for track in [*EVERYBODY, "anon:late"]:
        assert track not in told
    await town.stop()


async def test_what_arrives_for_a_member_on_its_way_is_kept() -> None:
    town = await a_family()
    gate, reached = asyncio.Event(), asyncio.Event()

    async def hold(op: str, payload: dict[str, Any]) -> None:
        if op == "adopt" and not gate.is_set():
            reached.set()
            await gate.wait()

    town.on_ask = hold
    moving = asyncio.ensure_future(join(town, EMAIL, USER))
    await reached.wait()
    arriving = [
        asyncio.ensure_future(town.observe(m, signal("click", T0, message=90 + n))) for n, m in enumerate(MEMBERS)
    ]
    deciding = asyncio.ensure_future(town.decide("anon:m2"))
    await asyncio.sleep(0)
    gate.set()
    await moving
    assert [(await one)["results"] for one in arriving] == [["accepted"]] * 3
    assert (await deciding)["decision"]["profileId"] == (await town.profile(USER))["profileId"]
    assert (await together(town))["n_signals"] == len(EVERYBODY) + 3
    await town.stop()
