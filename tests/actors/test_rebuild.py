"""Snapshot + replay of the tail = rebuild, bit for bit, whatever is done and wherever it is cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.actors.town import BOOK, Town
from tests.engine.builders import histories

ANONS = ["anon:0", "anon:1", "anon:2"]
USERS = ["user:0", "user:1"]
DAY_MS = 24 * 3600 * 1000

steps = st.lists(
    st.one_of(
        st.tuples(st.just("observe"), st.sampled_from(ANONS + USERS), histories(max_size=4)),
        st.tuples(st.just("decide"), st.sampled_from(ANONS + USERS), st.integers(0, 3)),
        st.tuples(st.just("link"), st.sampled_from(ANONS), st.sampled_from(USERS)),
        st.tuples(st.just("unlink"), st.sampled_from(ANONS), st.sampled_from(USERS)),
        st.tuples(st.just("save"), st.just(""), st.just("")),
        st.tuples(st.just("sleep"), st.just(""), st.just("")),
        st.tuples(st.just("wait"), st.sampled_from([1, 150, 401]), st.just("")),
        st.tuples(st.just("erase"), st.sampled_from(ANONS + USERS), st.just("")),
        st.tuples(st.just("late"), st.sampled_from(ANONS + USERS), st.integers(0, 3)),
        st.tuples(st.just("try"), st.sampled_from([0.3, 0.7, 1.0]), st.just("")),
        st.tuples(st.just("kill"), st.integers(0, 1), st.just("")),
    ),
    max_size=16,
)
CANDIDATE = {**BOOK, "campaigns": {"cart": {**BOOK["campaigns"]["cart"], "holdout": {"share": 0.3}}}}


async def tried(town: Town, share: float) -> None:
    """A rollout of another book goes on, or begins."""
    versions = town.stores.versions
    await versions.put("book", "candidate", {}, orjson.dumps(CANDIDATE))
    pointer = await versions.world()
    rollout = {"id": "r1", "kind": "book", "candidate": "candidate", "stage": "canary", "share": share, "since_ms": 0}
    await versions.publish(pointer["rev"], {**pointer, "rollout": rollout})
    for shard in town.shards.values():
        await shard.worlds.refresh()


async def live(town: Town) -> dict[str, Any]:
    """Every track that is anywhere, as its snapshot; all of them are brought into memory for it."""
    found = {}
    for shard in town.shards.values():
        for partition in shard.partitions.values():
            for name in partition.missing(ANONS + USERS):
                (snapshot,) = await shard.snapshots.load([(partition.index, name)])
                partition.activate(name, snapshot, town.clock())
            for name, track in partition.live.items():
                if partition.expired(track, town.clock()) and partition.profile_tracks(track.root) == [track]:
                    continue
                found[f"{partition.index}/{name}"] = orjson.dumps(track.snapshot())
    return found


async def erased(town: Town, who: str) -> None:
    """Erase a profile and wait until nothing is left to do for it."""
    await town.ask(who, "erase", {"track": who})
    partitions = [p for shard in town.shards.values() for p in shard.partitions.values()]
    while any(p.erasures for p in partitions):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def act(town: Town, step: tuple[str, Any, Any]) -> None:
    verb, who, what = step
    if verb == "observe":
        await town.observe(who, *what)
    elif verb == "decide":
        await town.decide(who, request_id=f"r{what}" if what else None)
    elif verb == "link":
        await town.link(who, what)
    elif verb == "unlink":
        await town.ask(what, "unlink", {"track": what, "anon": who})
    elif verb == "save":
        for shard in town.shards.values():
            for partition in shard.partitions.values():
                await shard.housekeeping.save_all(partition)
                partition.saved(list(partition.dirty), partition.position)
    elif verb == "sleep":
        for shard in town.shards.values():
            for partition in shard.partitions.values():
                partition.passivate(town.clock() + 1)
    elif verb == "wait":
        town.clock.now_ms += who * DAY_MS
    elif verb == "erase":
        await erased(town, who)
    elif verb == "late":
        decision = (await town.decide(who, request_id=f"r{what}"))["decision"]["decisionId"]
        await town.ask_partition(int(decision.split("_")[1]), "supersede", {"decision_id": decision})
    elif verb == "try":
        await tried(town, who)
    else:
        await town.kill(who)
        await town.start_shard(who)


async def lives(script: list[tuple[str, Any, Any]]) -> None:
    town = await Town(n_partitions=4).start()
    for step in script:
        town.clock.now_ms += 1000
        await act(town, step)
    before = await live(town)
    for index in (0, 1):
        await town.kill(index)
        await town.start_shard(index)
    assert await live(town) == before
    await town.stop()
    await town.start()
    assert await live(town) == before
    await town.stop()


@given(steps)
@settings(max_examples=60, deadline=None)
def test_a_rebuild_is_the_same_bit_for_bit(script: list[tuple[str, Any, Any]]) -> None:
    asyncio.run(lives(script))


def test_what_a_profile_was_linked_with_may_be_erased_and_the_profile_is_rebuilt_as_it_was() -> None:
    asyncio.run(
        lives([("link", "anon:2", "user:0"), ("unlink", "anon:2", "user:0"), ("erase", "anon:2", "")]),
    )
