"""Learning over real journals: exactly once through kills, links and archives; the erased are forgotten."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.archive import MemoryArchive
from actors.history import History
from actors.learning import Learning, LearningSettings
from actors.learning_saves import ArchiveSaves, Saves, VersionSaves
from actors.segments import Segments
from actors.stores import Stores
from engine.errors import Unavailable
from engine.ids import message_hash
from engine.signals import Signal
from tests.actors.test_archived import SMALL, archived
from tests.actors.test_rebuild import ANONS, USERS, erased
from tests.actors.town import Town, scroll
from training.example import Example

MINUTE, HOUR = 60_000, 3_600_000


async def learning(town: Town, saves: Saves | None = None, **more: Any) -> Learning:
    segments = Segments(town.archive) if town.archive is not None else None
    return Learning(
        town.stores.journal, History(town.stores.journal, segments, foreign=True), town.n_partitions,
        town.stores.versions, saves, town.clock, await town.stores.table.secret("messages"), LearningSettings(**more),
    )  # fmt: skip


def order(town: Town, order_id: str, kind: str = "order_completed") -> Signal:
    message = message_hash(b"k", f"{kind} {order_id} {town.clock()}")
    return Signal(kind, town.clock(), message, {"order_id": order_id, "value": 30.0})


async def decided(town: Town, track: str, **more: Any) -> str:
    found: str = (await town.decide(track, **more))["decision"]["decisionId"]
    return found


def matured(of: Learning) -> dict[str, Example]:
    held = {key: of.window.get(key) for key in of.window}
    return {key: example for key, example in held.items() if example is not None and example.matured}


async def test_without_traffic_examples_mature_by_the_clock() -> None:
    town = await Town().start()
    key = await decided(town, "anon:a")
    reader = await learning(town)
    (first,) = await reader.advance()
    assert (first.key, first.matured, reader.n_rows) == (key, False, 0)
    town.clock.now_ms += 6 * MINUTE + 5000
    (last,) = await reader.advance()
    assert (last.key, last.label, last.matured, reader.n_rows) == (key, 0, True, 1)
    assert reader.columns(10).keys == [key]
    assert await reader.advance() == []
    assert reader.told()["behind_ms"] == 5000
    await town.stop()


async def test_a_decision_before_the_link_is_found_by_the_order_after_it() -> None:
    town = await Town().start()
    key = await decided(town, "anon:a")
    await town.link("anon:a", "user:u")
    await town.observe("user:u", order(town, "o1"))
    reader = await learning(town)
    town.clock.now_ms += HOUR
    await reader.advance()
    assert matured(reader)[key].label == 1
    by_device = await decided(town, "user:u")
    await town.observe("anon:a", order(town, "o2"))
    await town.observe("user:u", order(town, "o1", "order_cancelled"))
    town.clock.now_ms += HOUR
    await reader.advance()
    assert [matured(reader)[k].label for k in (key, by_device)] == [0, 1]
    await town.stop()


async def test_rewards_and_supersessions_reach_their_decision_wherever_it_went() -> None:
    town = await Town().start()
    won, late = await decided(town, "anon:a"), await decided(town, "anon:a", request_id="r")
    await town.link("anon:a", "user:u")
    home = int(won.split("_")[1])
    await town.ask_partition(home, "reward", {"decision_id": won, "type": "conversion", "value": 1.0})
    await town.ask_partition(home, "supersede", {"decision_id": late})
    reader = await learning(town)
    town.clock.now_ms += HOUR
    await reader.advance()
    assert {key: found.label for key, found in matured(reader).items()} == {won: 1}
    await town.stop()


# -- visits ------------------------------------------------------------------------------------------------


async def test_a_visit_without_a_decision_is_recorded_once_in_a_window() -> None:
    town = await Town().start()
    for n in range(4):
        await town.observe("anon:a", scroll(0.1 * n, town.clock()))
        town.clock.now_ms += 2 * MINUTE
    await decided(town, "anon:b")
    await town.observe("anon:b", scroll(0.5, town.clock()))
    reader = await learning(town)
    told = await reader.advance()
    assert [(e.track, e.offer) for e in told if e.key.startswith("v:") and e.revision == 1] == [("anon:a", None)] * 2
    depth = [e.row[3] for e in told if e.key.startswith("v:")]
    assert depth[0] == 0.0
    await town.stop()


async def test_no_visit_is_recorded_of_a_bot_or_without_consent_or_of_the_past() -> None:
    town = await Town().start()
    await town.observe("anon:bot", scroll(0.5), context={"bot": True})
    await town.observe("anon:no", scroll(0.5), consent={"training": False})
    await town.observe("anon:off", scroll(0.5), consent={"analytics": False})
    await town.observe("anon:past", scroll(0.5), backfill=True)
    await town.observe("anon:yes", scroll(0.5))
    reader = await learning(town)
    assert {e.track for e in await reader.advance()} == {"anon:yes"}
    await town.stop()


# -- erased ------------------------------------------------------------------------------------------------


async def test_the_erased_are_forgotten_also_in_what_is_saved() -> None:
    town = await Town(n_partitions=4).start()
    archive = MemoryArchive()
    reader = await learning(town, ArchiveSaves(archive, "trainer"))
    anon, user, other = "anon:0", "user:0", "anon:2"
    for who in (anon, user, other):
        await decided(town, who)
    await town.link(anon, user)
    await town.observe(user, order(town, "o1"))
    town.clock.now_ms += HOUR
    await reader.advance()
    assert {e.track for e in matured(reader).values()} == {anon, user, other}
    await erased(town, user)
    reader = await learning(town, ArchiveSaves(archive, "trainer"))
    await reader.advance()
    assert {e.track for e in matured(reader).values()} == {other}
    (newest,) = archive.held.values()
    texts = [zlib.decompress(newest[12 : 12 + int.from_bytes(newest[4:12], "big")])]
    texts.append(zlib.decompress(newest[12 + int.from_bytes(newest[4:12], "big") :]))
    assert not any(name.encode() in text for name in (anon, user) for text in texts)
    assert any(other.encode() in text for text in texts)
    await town.stop()


# -- saved -------------------------------------------------------------------------------------------------


class Tally:
    """A subscriber that must count every maturing once."""

    name = "tally"

    def __init__(self) -> None:
        self.held: dict[str, int] = {}

    def take(self, examples: Sequence[Example]) -> None:
        for example in examples:
            self.held[example.key] = self.held.get(example.key, 0) + 1

    def state(self) -> Any:
        return self.held

    def restore(self, state: Any) -> None:
        self.held = dict(state)


async def test_offsets_window_and_subscribers_are_of_the_same_moment() -> None:
    town = await Town().start()
    saves = VersionSaves(town.stores.versions, "t")
    keys = [await decided(town, f"anon:{i}") for i in range(5)]
    reader, tally = await learning(town, saves, save_every_ms=10**12), Tally()
    reader.subscribe(tally)
    await reader.advance()  # saves: nothing ever was
    keys += [await decided(town, f"anon:{i}") for i in range(5, 9)]
    await reader.advance()  # read, and lost with the process
    again, second = await learning(town, saves), Tally()
    again.subscribe(second)
    await again.resume()
    assert second.held == dict.fromkeys(keys[:5], 1)
    assert set(again.window) == set(keys[:5])
    await again.advance()
    assert second.held == dict.fromkeys(keys, 1)
    await town.stop()


async def test_over_every_store_a_shard_and_a_learner_that_die_lose_and_double_nothing(stores: Stores) -> None:
    town = await Town(stores, n_partitions=4).start()
    saves = VersionSaves(stores.versions, "t")
    reader, tally = await learning(town, saves, save_every_ms=10**12), Tally()
    reader.subscribe(tally)
    keys = [await decided(town, f"anon:{i}") for i in range(6)]
    await reader.advance()
    await reader.save()
    await town.link("anon:0", "user:u")
    await town.kill(0)
    await town.start_shard(0)
    keys += [await decided(town, f"anon:{i}") for i in range(6, 12)]
    await town.observe("user:u", order(town, "o1"))
    await reader.advance()  # read, and lost with the process
    again, second = await learning(town, saves), Tally()
    again.subscribe(second)
    await erased(town, "anon:7")
    town.clock.now_ms += HOUR
    await again.advance()
    gone = keys[7]
    await town.stop()
    found = {key: example.label for key, example in matured(again).items() if key.startswith("d_")}
    assert found == {key: int(key == keys[0]) for key in keys if key != gone}
    assert second.held.keys() >= set(keys) - {gone}


async def test_a_broken_save_is_passed_over_for_the_one_before() -> None:
    town, archive = await Town().start(), MemoryArchive()
    saves = ArchiveSaves(archive, "t")
    for i in range(3):
        await decided(town, f"anon:{i}")
        reader = await learning(town, saves)
        await reader.advance()
        await reader.save()
    assert len(archive.held) == 2
    newest = max(archive.held)
    archive.held[newest] = archive.held[newest][:-9]
    again = await learning(town, saves)
    assert await again.resume()
    await again.advance()
    assert {e.track for key in again.window if (e := again.window.get(key))} == {"anon:0", "anon:1", "anon:2"}
    await town.stop()


async def test_an_archive_that_fails_holds_nothing_up_and_is_tried_again() -> None:
    town, archive = await Town().start(), MemoryArchive()
    await decided(town, "anon:a")

    def refuse(verb: str, name: str) -> None:
        if verb == "put":
            raise Unavailable("archive_full", "no room")

    archive.fault = refuse
    reader = await learning(town, ArchiveSaves(archive, "t"))
    assert len(await reader.advance()) == 1
    assert not archive.held
    archive.fault = lambda verb, name: None
    await reader.save()
    assert len(archive.held) == 1
    await town.stop()


async def test_a_book_that_is_gone_teaches_nothing_and_stops_nothing() -> None:
    town = await Town().start()
    lost = (await town.stores.versions.world())["book"]
    await decided(town, "anon:a")
    await town.publish({"timezone": "UTC", "currency": "EUR", "campaigns": {
        "other": {"placements": ["product_page"], "offers": {"x": {"content": "hello"}}}}})  # fmt: skip
    for index in town.shards:
        await town.ask_partition(index, "refresh", {})
    kept = await decided(town, "anon:b")
    await town.stores.versions.delete("book", lost)
    reader = await learning(town)
    assert [e.key for e in await reader.advance()] == [kept]
    assert reader.attribution.counts["left_out"] == 1
    await town.stop()


async def test_what_has_left_the_store_is_read_from_the_archive() -> None:
    town = Town(n_shards=1, n_partitions=2)
    town.archive, town.archiving = MemoryArchive(), SMALL
    town.settings = replace(town.settings, snapshot_every_ms=0)
    await town.start()
    follower = await learning(town)
    first = await decided(town, "anon:a")
    await follower.advance()
    await archived(town, first)
    second = await decided(town, "anon:a")
    await archived(town, second)
    await town.observe("anon:a", order(town, "o1"))
    town.clock.now_ms += HOUR
    await follower.advance()
    late = await learning(town)
    await late.advance()
    assert matured(follower) == matured(late)
    assert [matured(late)[key].label for key in (first, second)] == [1, 1]
    await town.stop()


# -- the law -----------------------------------------------------------------------------------------------

who = st.sampled_from(ANONS + USERS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("decide"), who, st.integers(0, 2)),
        st.tuples(st.just("look"), who, st.just(0)),
        st.tuples(st.just("order"), who, st.integers(0, 3)),
        st.tuples(st.just("refund"), who, st.integers(0, 3)),
        st.tuples(st.just("late"), who, st.integers(0, 2)),
        st.tuples(st.just("reward"), who, st.integers(0, 2)),
        st.tuples(st.just("link"), st.sampled_from(ANONS), st.sampled_from(USERS)),
        st.tuples(st.just("wait"), st.sampled_from([1, 4, 20]), st.just(0)),
        st.tuples(st.just("read"), st.booleans(), st.just(0)),
        st.tuples(st.just("die"), st.just(""), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 1), st.just(0)),
    ),
    max_size=20,
)


async def act(town: Town, verb: str, one: Any, two: Any) -> None:
    if verb == "decide":
        await town.decide(one, request_id=f"r{two}" if two else None)
    elif verb == "look":
        await town.observe(one, scroll(0.8, town.clock()))
    elif verb in ("order", "refund"):
        kind = "order_completed" if verb == "order" else "order_refunded"
        await town.observe(one, order(town, f"o{two}", kind))
    elif verb in ("late", "reward"):
        decision = (await town.decide(one, request_id=f"r{two}"))["decision"]["decisionId"]
        what = {"type": "conversion", "value": 1.0} if verb == "reward" else {}
        op = "reward" if verb == "reward" else "supersede"
        await town.ask_partition(int(decision.split("_")[1]), op, {"decision_id": decision, **what})
    elif verb == "link":
        await town.link(one, two)
    elif verb == "kill":
        await town.kill(one)
        await town.start_shard(one)


async def lives(script: list[tuple[str, Any, Any]]) -> None:
    town = await Town(n_partitions=4).start()
    saves = VersionSaves(town.stores.versions, "t")
    reader = await learning(town, saves, save_every_ms=10**12)
    for verb, one, two in script:
        town.clock.now_ms += one * MINUTE if verb == "wait" else 1000
        if verb == "read":
            await reader.advance()
            if one:
                await reader.save()
        elif verb == "die":
            reader = await learning(town, saves, save_every_ms=10**12)
        else:
            await act(town, verb, one, two)
    town.clock.now_ms += 24 * HOUR
    await reader.advance()
    whole = await learning(town)
    await whole.advance()
    assert matured(reader) == matured(whole)
    assert set(reader.window) == set(matured(reader))
    await town.stop()


@given(steps)
@settings(max_examples=40, deadline=None)
def test_killed_at_any_point_learning_comes_to_what_one_reading_of_the_journal_gives(script: Any) -> None:
    asyncio.run(lives(script))
