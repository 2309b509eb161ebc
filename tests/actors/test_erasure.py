"""Erased is erased, whatever else happens meanwhile; and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from engine.errors import Unavailable
from engine.ids import partition_of
from tests.actors.test_links import ANON, USER, restart
from tests.actors.town import Town, scroll
from tests.engine.builders import signal

HOME = partition_of(USER, 8)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = await Town().start()
    yield town
    await town.stop()


async def erased(town: Town, track: str) -> dict[str, Any]:
    """Ask for an erasure once and wait until its receipt says done."""
    receipt = (await town.ask(track, "erase", {"track": track}))["receipt"]
    async with asyncio.timeout(10):
        while receipt["status"] != "done":
            await asyncio.sleep(0)
            receipt = await receipt_of(town, receipt["id"])
    return receipt


async def receipt_of(town: Town, receipt_id: str) -> dict[str, Any]:
    (held,) = await town.stores.snapshots.load([(int(receipt_id.split("_")[1]), "receipt:" + receipt_id)])
    assert held is not None
    receipt: dict[str, Any] = orjson.loads(held)
    return receipt


async def everything(town: Town) -> bytes:
    held = b""
    for p in range(town.n_partitions):
        held += b"".join(payload for _, payload in await town.stores.journal.read(p, None, 10_000))
        held += b"".join([track.encode() async for track in town.stores.snapshots.tracks(p)])
    return held


async def test_what_arrives_after_an_erasure_is_kept(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await town.observe("anon:a", signal("page"), scroll(0.9))
    read, gate = town.stores.journal.read, asyncio.Event()

    async def held(partition: int, after: tuple[int, int] | None, limit: int) -> list[tuple[tuple[int, int], bytes]]:
        await gate.wait()
        return await read(partition, after, limit)

    monkeypatch.setattr(town.stores.journal, "read", held)
    receipt = (await town.ask("anon:a", "erase", {"track": "anon:a"}))["receipt"]
    assert receipt["status"] == "pending"
    assert (await town.observe("anon:a", scroll(0.5)))["results"] == ["accepted"]
    gate.set()
    async with asyncio.timeout(10):
        while (await receipt_of(town, receipt["id"]))["status"] != "done":  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert (await town.profile("anon:a"))["n_signals"] == 1
    await restart(town)
    assert (await town.profile("anon:a"))["n_signals"] == 1


async def test_two_erasures_in_one_entry_do_not_undo_each_other(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [a for i in range(100) if partition_of(a := f"anon:{i}", 8) == HOME][:3]
    await asyncio.gather(*(town.observe(name, signal("page")) for name in names))
    redact = town.stores.journal.redact

    async def slowly(partition: int, position: tuple[int, int], payload: bytes | None) -> None:
        await asyncio.sleep(0)
        await redact(partition, position, payload)

    monkeypatch.setattr(town.stores.journal, "redact", slowly)
    await asyncio.gather(*(erased(town, name) for name in names[:2]))
    held = await everything(town)
    assert names[0].encode() not in held
    assert names[1].encode() not in held
    assert names[2].encode() in held


async def test_an_erasure_cut_off_by_a_crash_is_finished_everywhere(town: Town) -> None:
    await town.observe(ANON, signal("page"))
    await town.link(ANON, USER)
    tried = asyncio.Event()

    async def cut(op: str, payload: dict[str, Any]) -> None:
        if op == "forget":
            tried.set()
            raise Unavailable("shard_unavailable", "the home of the track is down")

    town.on_ask = cut
    receipt = (await town.ask(USER, "erase", {"track": USER}))["receipt"]
    await tried.wait()
    for index in (0, 1):
        await town.kill(index)
    town.on_ask = None
    for index in (0, 1):
        await town.start_shard(index)
    async with asyncio.timeout(10):
        while receipt["status"] != "done":
            await asyncio.sleep(0)
            receipt = await receipt_of(town, receipt["id"])
    assert receipt["n_tracks"] == 2
    held = await everything(town)
    assert ANON.encode() not in held
    assert USER.encode() not in held
    assert (await town.observe(ANON, scroll(0.5)))["results"] == ["accepted"]


async def test_an_erasure_repeated_at_the_home_of_a_track_spares_what_is_new(town: Town) -> None:
    await town.observe(ANON, signal("page"))
    await town.link(ANON, USER)
    forgets: list[str] = []

    async def lose_the_first_reply(op: str, payload: dict[str, Any]) -> None:
        if op != "forget":
            return
        forgets.append(op)
        home = partition_of(ANON, 8)
        if len(forgets) == 1:
            await town.shards[home % 2].ask(op, orjson.loads(orjson.dumps(payload)), home)
            assert (await town.observe(ANON, scroll(0.5)))["results"] == ["accepted"]
            raise Unavailable("connection_lost", "the reply was lost")

    town.on_ask = lose_the_first_reply
    await erased(town, USER)
    assert len(forgets) == 2
    assert (await town.profile(ANON))["n_signals"] == 1
    await restart(town)
    assert (await town.profile(ANON))["n_signals"] == 1


async def test_a_link_under_way_does_not_bring_back_what_is_erased(town: Town) -> None:
    await town.observe(ANON, signal("page"))
    await town.observe(USER, signal("click"))
    adopts: list[str] = []
    gate = asyncio.Event()

    async def lose_the_first_reply(op: str, payload: dict[str, Any]) -> None:
        if op == "forget":
            gate.set()
        if op == "settle":
            asyncio.get_running_loop().call_soon(gate.set)
        if op != "adopt":
            return
        adopts.append(op)
        if len(adopts) == 1:
            await town.shards[HOME % 2].ask(op, orjson.loads(orjson.dumps(payload)), HOME)
            raise Unavailable("connection_lost", "the reply was lost")
        await gate.wait()

    town.on_ask = lose_the_first_reply
    link = asyncio.ensure_future(town.link(ANON, USER))
    while len(adopts) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert (await erased(town, USER))["n_tracks"] == 2
    await asyncio.wait([link])
    for name in (ANON, USER):
        assert (await town.ask(name, "profile", {"track": name}))["error"]["status"] == 404
    await restart(town)
    for name in (ANON, USER):
        assert (await town.ask(name, "profile", {"track": name}))["error"]["status"] == 404
