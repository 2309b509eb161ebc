"""Identities of many kinds: linked in any order to the same profile, guarded, unlinked and erased without a trace."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from itertools import permutations
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.linking import link
from engine.errors import Unavailable
from engine.ids import partition_of, rank
from tests.actors.town import BOOK, Town, scroll
from tests.engine.builders import T0, signal

EMAIL = "email:" + "ab" * 32
USER, DEVICE, ANON = "user:u", "device:phone", "anon:a"
EVERYBODY = [ANON, "anon:b", DEVICE, EMAIL, USER]


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = await Town().start()
    yield town
    await town.stop()


async def join(town: Town, named: str, to: str) -> dict[str, Any]:
    async def ask(track: str, op: str, payload: dict[str, Any]) -> dict[str, Any]:
        return await town.ask(track, op, {"track": track, **payload})

    return await link(ask, named, to)


async def greet(town: Town, *tracks: str) -> None:
    """Each identity shows itself with a signal of its own."""
    for track in tracks:
        t_ms = T0 + 1000 * EVERYBODY.index(track) if track in EVERYBODY else T0
        await town.observe(track, signal("page", t_ms, url=f"/{track}"))


async def texts(town: Town) -> str:
    """Everything in journals and snapshots, as text."""
    found = []
    for partition in range(town.n_partitions):
        for _, payload in await town.stores.journal.read(partition, None, 10_000):
            found.append(payload.decode())
    return "\n".join(found)


async def restart(town: Town) -> None:
    for index in range(town.n_shards):
        await town.kill(index)
        await town.start_shard(index)


# -- the laws ----------------------------------------------------------------------------------------------

EDGES = [(ANON, DEVICE), ("anon:b", EMAIL), (DEVICE, EMAIL), (EMAIL, USER)]


async def test_in_whatever_order_and_direction_they_are_linked_it_is_the_same_profile() -> None:
    profiles = []
    for n, order in enumerate(permutations(EDGES)):
        town = await Town().start()
        await greet(town, *EVERYBODY)
        for i, (a, b) in enumerate(order):
            reply = await join(town, *((a, b) if (n >> i) & 1 else (b, a)))
            assert reply["linked"] is True, (order, reply)
        assert (await join(town, ANON, USER))["linked"] is True
        shown = [await town.profile(track) for track in EVERYBODY]
        assert all(one == shown[0] for one in shown)
        profiles.append(shown[0])
        await town.stop()
    assert all(one == profiles[0] for one in profiles)
    assert profiles[0]["identities"] == sorted(EVERYBODY)
    assert profiles[0]["n_signals"] == len(EVERYBODY)
    assert profiles[0]["root"] == USER


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["anon:1", "anon:2", "device:1", "device:2"]), st.sampled_from([EMAIL, "user:1"])),
        max_size=7,
    ),
    st.booleans(),
)
def test_accepted_links_join_and_nothing_else_does(links: list[tuple[str, str]], again: bool) -> None:
    async def run() -> None:
        town = await Town().start()
        groups: dict[str, set[str]] = {}
        for a, b in [*links, *(links if again else [])]:
            reply = await join(town, a, b)
            mine, theirs = groups.get(a, {a}), groups.get(b, {b})
            known = {t for t in mine | theirs if rank(t) == 3}
            emails = {t for t in mine | theirs if rank(t) == 2}
            assert len(known) < 2
            assert len(emails) < 2
            assert reply["linked"] is True
            for track in mine | theirs:
                groups[track] = mine | theirs
        await restart(town)
        for track, group in groups.items():
            assert (await town.profile(track))["identities"] == sorted(group)
            assert (await town.profile(track))["root"] == max(group, key=rank) or sum(
                rank(t) == max(map(rank, group)) for t in group
            ) > 1
        await town.stop()

    asyncio.run(run())


async def test_links_made_at_the_same_time_come_to_the_same_profile(town: Town) -> None:
    await greet(town, *EVERYBODY)
    replies = await asyncio.gather(*(join(town, a, b) for a, b in EDGES for _ in range(2)))
    assert all(reply["linked"] for reply in replies)
    assert (await town.profile(ANON))["identities"] == sorted(EVERYBODY)
    await restart(town)
    assert (await town.profile("anon:b"))["identities"] == sorted(EVERYBODY)
    assert (await town.profile(USER))["n_signals"] == len(EVERYBODY)


async def test_a_profile_that_moves_keeps_what_all_its_tracks_have_seen(town: Town) -> None:
    await greet(town, ANON, DEVICE, EMAIL)
    await join(town, ANON, EMAIL)
    await join(town, DEVICE, EMAIL)
    before = await town.profile(ANON)
    await join(town, EMAIL, USER)
    after = await town.profile(ANON)
    assert after["features"] == before["features"]
    assert after["identities"] == sorted([ANON, DEVICE, EMAIL, USER])
    repeated = await town.observe(DEVICE, signal("page", T0 + 2000, url=f"/{DEVICE}"))
    assert repeated["results"] == ["duplicate"]


# -- guards ------------------------------------------------------------------------------------------------


async def test_two_known_persons_are_not_merged_whatever_links_them(town: Town) -> None:
    await greet(town, EMAIL, USER)
    await join(town, EMAIL, USER)
    for named, to in ((EMAIL, "user:other"), ("user:other", EMAIL), (USER, "user:other")):
        reply = await join(town, named, to)
        assert (reply["linked"], reply["refused"]["code"]) == (False, "linked_elsewhere")
    await join(town, ANON, EMAIL)
    assert (await join(town, ANON, "email:" + "cd" * 32))["linked"] is True
    assert (await join(town, ANON, "user:other"))["refused"]["code"] == "linked_elsewhere"
    assert (await town.profile(USER))["root"] == USER


async def test_a_device_of_too_many_users_is_linked_to_none_any_more(town: Town) -> None:
    await greet(town, DEVICE)
    codes = [(await join(town, DEVICE, f"user:{n}")).get("refused", {}).get("code") for n in (1, 2, 2, 3, 4, 2)]
    elsewhere = "linked_elsewhere"
    assert codes == [None, elsewhere, elsewhere, elsewhere, "shared_device", "shared_device"]
    await town.ask("user:1", "unlink", {"track": "user:1", "anon": DEVICE})
    await restart(town)
    assert (await join(town, DEVICE, "user:5"))["refused"]["code"] == "shared_device"
    assert (await join(town, DEVICE, "user:1"))["refused"]["code"] == "shared_device"
    assert (await town.profile(DEVICE))["identities"] == [DEVICE]


async def test_an_email_may_have_many_devices_and_those_many_visitors(town: Town) -> None:
    for n in range(6):
        assert (await join(town, f"device:{n}", EMAIL))["linked"] is True
        assert (await join(town, f"anon:{n}", f"device:{n}"))["linked"] is True
    assert len((await town.profile("anon:3"))["identities"]) == 13


# -- undone ------------------------------------------------------------------------------------------------

moments = st.lists(
    st.tuples(st.sampled_from([ANON, USER]), st.sampled_from(["page", "scroll", "click", "add", "order", "identify"])),
    min_size=1, max_size=12,
)  # fmt: skip


def made(n: int, what: str, track: str) -> Any:
    t_ms = T0 + n * 1000
    if what == "scroll":
        return scroll(0.9 if n % 2 else 0.2, t_ms)
    if what == "add":
        return signal("product_added", t_ms, items=[{"id": f"p{n}", "price": 5.0, "quantity": 1}])
    if what == "order":
        return signal("order_completed", t_ms, order_id=f"o{n}", value=9.0)
    if what == "identify":
        return signal("identify", t_ms, traits={"name": track})
    return signal(what, t_ms, url=f"/{n}")


FRESH = copy.deepcopy(BOOK)
"""Without hysteresis and hold: who is in a segment follows from what was done, not from when it was looked at."""
FRESH["campaigns"]["cart"]["segments"]["deep"] = {"all": [{"feature": "scroll_share", "above": 0.7}]}


@settings(max_examples=20, deadline=None)
@given(moments, st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_after_an_unlink_both_are_as_if_they_had_never_been_merged(
    acts: list[tuple[str, str]], first: int, second: int, crash: bool
) -> None:
    linked, unlinked = sorted((min(first, len(acts)), min(second, len(acts))))

    async def run(merge: bool) -> list[Any]:
        town = await Town(n_partitions=4).start(FRESH)
        for n, (track, what) in enumerate(acts):
            if merge and n == linked:
                await join(town, ANON, USER)
            if merge and n == unlinked:
                await town.ask(USER, "unlink", {"track": USER, "anon": ANON})
            town.clock.now_ms += 1000
            await town.observe(track, made(n, what, track))
        if merge and linked == len(acts):
            await join(town, ANON, USER)
        if merge and unlinked == len(acts):
            await town.ask(USER, "unlink", {"track": USER, "anon": ANON})
        if crash:
            await restart(town)
        for track in (ANON, USER):
            # The next signal looks at the segments anew.
            await town.observe(track, signal("click", T0 + 60_000, url=f"/last{track}"))
        shown = []
        for track in (ANON, USER):
            profile = await town.profile(track)
            shown.append({**profile, "segments": sorted(profile["segments"])})
        await town.stop()
        return shown

    merged, apart = asyncio.run(run(True)), asyncio.run(run(False))
    for mine, theirs in zip(merged, apart, strict=True):
        assert mine == theirs


async def test_segments_entered_while_merged_go_with_the_unlink(town: Town) -> None:
    await town.observe(USER, signal("click"))
    await join(town, ANON, USER)
    town.clock.now_ms += 1000
    await town.observe(ANON, scroll(0.9, T0 + 500))
    assert (await town.profile(USER))["segments"]
    await town.ask(USER, "unlink", {"track": USER, "anon": ANON})
    assert (await town.profile(USER))["segments"] == {}


# -- erased ------------------------------------------------------------------------------------------------


async def erased(town: Town, track: str) -> None:
    reply = await town.ask(track, "erase", {"track": track})
    for _ in range(500):
        if reply.get("receipt", {}).get("status") == "done":
            return
        await asyncio.sleep(0.005)
        reply = await town.ask(track, "erase", {"track": track})
    raise AssertionError(f"the erasure of {track} does not end: {reply}")


@pytest.mark.parametrize("crash", [False, True])
async def test_after_unlink_and_erase_no_home_of_the_track_holds_anything_of_it(town: Town, crash: bool) -> None:
    name = next(a for n in range(99) if partition_of(a := f"anon:gone{n}", 8) != partition_of(USER, 8))
    await town.observe(USER, signal("page", url="/mine"))
    for user in (USER, "user:second"):
        await town.observe(name, signal("page", url=f"/secret-{user[5:]}"))
        await join(town, name, user)
        await town.observe(name, signal("click", url=f"/more-{user[5:]}"))
        await town.decide(name, page_view_id="pv")
        await town.ask(user, "unlink", {"track": user, "anon": name})
    if crash:
        await restart(town)
    before = await town.profile(USER)
    await erased(town, name)
    told = await texts(town)
    assert name not in told
    assert "/secret" not in told
    await restart(town)
    assert await town.profile(USER) == before


async def test_erasing_a_user_takes_a_linked_email_with_its_devices_from_every_home(town: Town) -> None:
    await greet(town, *EVERYBODY)
    for a, b in EDGES:
        await join(town, a, b)
    await erased(town, USER)
    told = await texts(town)
    for track in EVERYBODY:
        assert track not in told


def test_a_town_of_this_size_really_spreads_these_tracks() -> None:
    assert len({partition_of(track, 8) for track in EVERYBODY}) >= 3
    assert orjson.dumps(EVERYBODY)


async def test_a_user_whose_device_another_has_claimed_is_erased_all_the_same(town: Town) -> None:
    await greet(town, *EVERYBODY)
    for a, b in EDGES:
        await join(town, a, b)
    assert (await join(town, DEVICE, "user:other"))["refused"]["code"] == "linked_elsewhere"
    await erased(town, USER)
    assert DEVICE not in await texts(town)


async def test_an_erasure_that_a_crash_interrupts_still_reaches_every_former_home(town: Town) -> None:
    await greet(town, *EVERYBODY)
    for a, b in EDGES:
        await join(town, a, b)
    tried = asyncio.Event()

    async def cutting(op: str, payload: dict[str, Any]) -> None:
        if op == "forget":
            tried.set()
            raise Unavailable("connection_lost", "the shard is away")

    town.on_ask = cutting
    reply = await town.ask(USER, "erase", {"track": USER})
    assert reply["receipt"]["status"] == "pending"
    await tried.wait()
    await restart(town)
    town.on_ask = None
    await erased(town, USER)
    told = await texts(town)
    for track in EVERYBODY:
        assert track not in told
        assert "error" in await town.ask(track, "profile", {"track": track})
