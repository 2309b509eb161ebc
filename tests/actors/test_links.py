"""Links between tracks: three journalled steps, finished whatever happens in between, and undone without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from engine.errors import Unavailable
from engine.ids import partition_of
from tests.actors.town import Town, scroll
from tests.engine.builders import T0, signal


def apart(n_partitions: int = 8, n_shards: int = 2) -> tuple[str, str]:
    """An anonymous and a known id whose homes are in different shards."""
    user = "user:u"
    home = partition_of(user, n_partitions)
    anon = next(a for i in range(100) if partition_of(a := f"anon:{i}", n_partitions) % n_shards != home % n_shards)
    return anon, user


ANON, USER = apart()
SAME = next(a for i in range(100) if partition_of(a := f"anon:s{i}", 8) == partition_of(USER, 8))


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = await Town().start()
    yield town
    await town.stop()


async def restart(town: Town) -> None:
    for index in list(range(town.n_shards)):
        if index in town.shards:
            await town.kill(index)
        await town.start_shard(index)


@pytest.mark.parametrize("anon", [ANON, SAME])
async def test_a_link_makes_one_profile_of_two_tracks(town: Town, anon: str) -> None:
    await town.observe(anon, signal("page"), scroll(0.9))
    await town.observe(USER, signal("click"))
    assert (await town.link(anon, USER))["linked"] is True
    by_anon, by_user = await town.profile(anon), await town.profile(USER)
    assert by_anon == by_user
    assert by_anon["identities"] == sorted([anon, USER])
    assert by_anon["n_signals"] == 3


@pytest.mark.parametrize("anon", [ANON, SAME])
async def test_duplicates_are_known_after_the_link(town: Town, anon: str) -> None:
    await town.observe(anon, scroll(0.9))
    await town.link(anon, USER)
    assert (await town.observe(anon, scroll(0.9)))["results"] == ["duplicate"]
    await restart(town)
    assert (await town.observe(anon, scroll(0.9)))["results"] == ["duplicate"]


async def test_linking_again_changes_nothing_and_linking_elsewhere_is_refused(town: Town) -> None:
    await town.observe(ANON, signal("page"))
    await town.link(ANON, USER)
    before = await town.profile(USER)
    assert (await town.link(ANON, USER))["linked"] is True
    assert await town.profile(USER) == before
    assert (await town.link(ANON, "user:other"))["linked"] is False


@pytest.mark.parametrize("anon", [ANON, SAME])
async def test_unlinking_restores_both_sides(town: Town, anon: str) -> None:
    await town.observe(anon, signal("page"), scroll(0.9))
    await town.observe(USER, signal("click"))
    before = await town.profile(anon), await town.profile(USER)
    await town.link(anon, USER)
    undone = await town.ask(USER, "unlink", {"track": USER, "anon": anon})
    assert undone == {"unlinked": True}
    assert (await town.profile(anon), await town.profile(USER)) == before
    await restart(town)
    assert (await town.profile(anon), await town.profile(USER)) == before
    assert (await town.link(anon, USER))["linked"] is True


async def test_the_order_of_links_does_not_matter(town: Town) -> None:
    anons = [f"anon:m{i}" for i in range(4)]
    profiles = []
    for order in (anons, anons[::-1]):
        fresh = await Town().start()
        for i, anon in enumerate(anons):
            await fresh.observe(anon, signal("page", T0 + i * 1000), scroll(0.1 * i, T0 + i * 1000 + 1))
        for anon in order:
            await fresh.link(anon, USER)
        profiles.append(await fresh.profile(USER))
        await fresh.stop()
    assert profiles[0] == profiles[1]


@pytest.mark.parametrize("step", ["before adopt", "after adopt", "before done"])
async def test_a_link_cut_off_at_any_step_is_completed_by_recovery(step: str) -> None:
    town = await Town().start()
    await town.observe(ANON, signal("page"), scroll(0.9))
    cut: list[str] = []

    async def cutting(op: str, payload: dict[str, Any]) -> None:
        if op == "adopt" and not cut:
            cut.append(op)
            if step == "after adopt":
                home = partition_of(USER, town.n_partitions)
                wire = orjson.loads(orjson.dumps(payload))
                await town.shards[home % town.n_shards].ask("adopt", wire, home)
            raise Unavailable("connection_lost", "the target's shard died")

    async def cut_done(op: str, payload: dict[str, Any]) -> None:
        if op == "adopt" and not cut:
            cut.append(op)
            home = town.shards[partition_of(ANON, town.n_partitions) % town.n_shards]
            submit = home.submit
            home.submit = lambda call: None if call.op == "link_done" else submit(call)  # type: ignore[method-assign]

    town.on_ask = cut_done if step == "before done" else cutting
    dies = _hangs_in_link(town) if step == "before done" else _dies_in_link(town)
    with pytest.raises((TimeoutError, Unavailable)):
        await dies
    town.on_ask = None
    await restart(town)
    assert (await town.profile(ANON))["identities"] == sorted([ANON, USER])
    assert (await town.profile(ANON))["n_signals"] == 2
    assert (await town.observe(ANON, scroll(0.9)))["results"] == ["duplicate"]
    await town.stop()


async def _hangs_in_link(town: Town) -> None:
    await town.ask(ANON, "link", {"track": ANON, "to": USER}, timeout_s=0.2)


async def _dies_in_link(town: Town) -> None:
    """Ask for the link and kill its home shard as soon as the adoption has been tried once."""
    tried = asyncio.Event()
    inner = town.on_ask
    assert inner is not None

    async def seen(op: str, payload: dict[str, Any]) -> None:
        try:
            await inner(op, payload)
        finally:
            if op == "adopt":
                tried.set()

    town.on_ask = seen
    link = asyncio.ensure_future(town.ask(ANON, "link", {"track": ANON, "to": USER}, timeout_s=1.0))
    await tried.wait()
    await town.kill(partition_of(ANON, town.n_partitions) % town.n_shards)
    await link


async def test_what_arrives_during_a_link_waits_and_is_kept(town: Town) -> None:
    await town.observe(ANON, signal("page"))
    gate, reached = asyncio.Event(), asyncio.Event()

    async def hold(op: str, payload: dict[str, Any]) -> None:
        if op == "adopt":
            reached.set()
            await gate.wait()

    town.on_ask = hold
    link = asyncio.ensure_future(town.link(ANON, USER))
    await reached.wait()
    during = asyncio.ensure_future(town.observe(ANON, scroll(0.9)))
    gate.set()
    assert (await link)["linked"] is True
    assert (await during)["results"] == ["accepted"]
    assert (await town.profile(USER))["n_signals"] == 2


async def test_a_reward_finds_a_decision_made_before_the_link(town: Town) -> None:
    decision_id = (await town.decide(ANON))["decision"]["decisionId"]
    await town.link(ANON, USER)
    payload = {"decision_id": decision_id, "value": 1.0, "type": "conversion"}
    home = partition_of(ANON, 8)
    assert (await town.ask_partition(home, "reward", payload))["status"] == "recorded"
    assert (await town.ask_partition(home, "reward", payload))["status"] == "repeated"
    shown = (await town.ask_partition(home, "decision", {"decision_id": decision_id}))["record"]
    assert shown["rewards"] == {"conversion": 1.0}
