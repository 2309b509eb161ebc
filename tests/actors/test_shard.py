"""A shard: acknowledged is durable, once, rebuilt after any end, and a decision always arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from actors.memory import Fault, MemoryJournal, memory_stores
from engine.ids import partition_of
from tests.actors.town import BOOK, Town, scroll
from tests.engine.builders import T0, signal

APPLE = {"os": "ios", "device": "mobile"}


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = await Town().start()
    yield town
    await town.stop()


async def test_a_signal_is_visible_in_the_next_decision(town: Town) -> None:
    before = (await town.decide("anon:a"))["decision"]
    await town.observe("anon:a", signal("page"), scroll(0.9))
    after = (await town.decide("anon:a"))["decision"]
    assert (before["segments"], after["segments"]) == ([], ["deep"])


async def test_a_repeated_message_is_a_duplicate(town: Town) -> None:
    first = await town.observe("anon:a", scroll(0.9), scroll(0.9))
    again = await town.observe("anon:a", scroll(0.9))
    assert (first["results"], again["results"]) == (["accepted", "duplicate"], ["duplicate"])
    assert (await town.profile("anon:a"))["n_signals"] == 1


async def test_a_decision_is_recorded_with_its_propensities(town: Town) -> None:
    await town.observe("anon:a", signal("page"), scroll(0.9))
    decision = (await town.decide("anon:a"))["decision"]
    assert decision["recorded"] is True
    shown = (await town.ask_partition(int(decision["decisionId"].split("_")[1]), "decision",
                                      {"decision_id": decision["decisionId"], "replay": True}))["record"]  # fmt: skip
    assert shown["identical"] is True
    assert sum(shown["explain"]["draws"][0]["propensities"].values()) == pytest.approx(1.0)


async def test_a_killed_shard_comes_back_with_what_it_acknowledged(town: Town) -> None:
    names = [f"anon:{i}" for i in range(20)]
    for name in names:
        await town.observe(name, signal("page"), scroll(0.8))
        await town.decide(name)
    before = {name: await town.profile(name) for name in names}
    for index in (0, 1):
        await town.kill(index)
        await town.start_shard(index)
    assert {name: await town.profile(name) for name in names} == before
    assert (await town.observe("anon:3", scroll(0.8)))["results"] == ["duplicate"]


async def test_a_snapshot_and_the_tail_rebuild_a_profile(town: Town) -> None:
    await town.observe("anon:a", signal("page"), scroll(0.8))
    await town.stop()
    await town.start()
    await town.observe("anon:a", scroll(0.9))
    before = await town.profile("anon:a")
    for index in (0, 1):
        await town.kill(index)
        await town.start_shard(index)
    assert await town.profile("anon:a") == before
    assert before["n_signals"] == 3


@pytest.mark.parametrize("fault", [Fault.UNCERTAIN_WRITTEN, Fault.UNCERTAIN_LOST, Fault.REFUSED, Fault.FENCED])
async def test_after_a_failed_append_nothing_is_lost_and_nothing_counts_twice(fault: Fault) -> None:
    journal = MemoryJournal()
    town = await Town(memory_stores(journal), n_shards=1).start()
    await town.observe("anon:a", signal("page"))
    journal.fail_next(fault)
    reply = await town.observe("anon:a", scroll(0.9))
    assert reply["unavailable"]["code"] == "not_durable"
    while "unavailable" in (reply := await town.observe("anon:a", scroll(0.9))):
        assert reply["unavailable"]["code"] == "recovering"
    assert reply["results"] == ["duplicate" if fault is Fault.UNCERTAIN_WRITTEN else "accepted"]
    assert (await town.profile("anon:a"))["n_signals"] == 2
    await town.stop()


async def test_a_decision_arrives_when_the_journal_does_not_take_it() -> None:
    journal = MemoryJournal()
    town = await Town(memory_stores(journal), n_shards=1).start()
    await town.observe("anon:a", signal("page"), scroll(0.9))
    journal.fail_next(Fault.REFUSED)
    decision = (await town.decide("anon:a", base=[{"id": "t1"}], limit=3))["decision"]
    assert (decision["recorded"], decision["decisionId"]) == (False, None)
    assert decision["degraded"]["reason"] == "NOT_RECORDED"
    assert [i["id"] for i in decision["items"]] == ["free", "t1"]
    await town.stop()


async def test_a_zombie_of_an_old_epoch_is_refused(town: Town) -> None:
    await town.observe("anon:a", signal("page"))
    zombies = dict(town.shards)
    for index in (0, 1):
        await town.start_shard(index)
    old = next(z for z in zombies.values() if any("anon:a" in p.live for p in z.partitions.values()))
    partition = next(p.index for p in old.partitions.values() if "anon:a" in p.live)
    late = {"track": "anon:a", "signals": [scroll(0.9).to_list()]}
    assert "unavailable" in await old.ask("observe", late, partition)
    for zombie in zombies.values():
        await zombie.stop()
    assert (await town.profile("anon:a"))["n_signals"] == 1


async def test_the_same_request_gets_the_same_decision(town: Town) -> None:
    first = await town.decide("anon:a", request_id="r1")
    again = await town.decide("anon:a", request_id="r1")
    other = await town.decide("anon:a", request_id="r2")
    assert again == first
    assert other["decision"]["decisionId"] != first["decision"]["decisionId"]


async def test_a_cap_holds_over_decisions_and_restarts(town: Town) -> None:
    first = (await town.decide("anon:a"))["decision"]
    for index in (0, 1):
        await town.kill(index)
        await town.start_shard(index)
    second = (await town.decide("anon:a", explain=True))["decision"]
    assert [i["id"] for i in first["items"]] == ["capped"]
    assert second["items"] == []
    assert {o["offer"]: o["reason"] for o in second["explain"]["offers"]}["capped"] == "CAP"


async def test_a_superseded_decision_does_not_count_against_the_cap(town: Town) -> None:
    first = (await town.decide("anon:a"))["decision"]["decisionId"]
    await town.ask_partition(int(first.split("_")[1]), "supersede", {"decision_id": first})
    assert [i["id"] for i in (await town.decide("anon:a"))["decision"]["items"]] == ["capped"]


async def test_a_reward_is_recorded_once_for_each_type(town: Town) -> None:
    decision_id = (await town.decide("anon:a"))["decision"]["decisionId"]
    p = int(decision_id.split("_")[1])

    async def reward(value: float, kind: str = "conversion") -> dict[str, Any]:
        payload = {"decision_id": decision_id, "value": value, "type": kind}
        return await town.ask_partition(p, "reward", payload)

    assert (await reward(1.0))["status"] == "recorded"
    assert (await reward(1.0))["status"] == "repeated"
    assert (await reward(0.5))["error"]["status"] == 409
    assert (await reward(0.5, "engagement"))["status"] == "recorded"
    unknown = {"decision_id": f"{decision_id.rsplit('_', 2)[0]}_9999_0", "value": 1.0, "type": "conversion"}
    assert (await town.ask_partition(p, "reward", unknown))["error"]["status"] == 404


async def test_a_bot_gets_tier_1_and_counts_nowhere(town: Town) -> None:
    context = {"bot": True, "os": "ios"}
    await town.observe("anon:b", signal("page"), scroll(0.95), context=context)
    decision = (await town.decide("anon:b", context=context, base=[{"id": "x"}]))["decision"]
    assert (decision["reason"], [i["id"] for i in decision["items"]], decision["segments"]) == ("BOT", ["x"], [])
    assert decision["items"][0]["reason"] == "BOT"
    assert (await town.profile("anon:b"))["segments"] == {}


async def test_without_consent_to_personalise_nothing_of_the_profile_is_used(town: Town) -> None:
    await town.observe("anon:a", signal("page"), scroll(0.95))
    decision = (await town.decide("anon:a", consent={"personalisation": False}, base=[{"id": "x"}]))["decision"]
    assert (decision["reason"], decision["segments"], decision["items"][0]["id"]) == ("CONSENT", [], "x")
    assert decision["items"][0]["reason"] == "CONSENT"
    assert (await town.profile("anon:a"))["segments"] == {"cart.deep": T0}


async def test_no_item_comes_twice_on_one_page_be_it_an_offer_or_a_suggestion(town: Town) -> None:
    suggestions = [{"id": name} for name in ("x", "y", "z")]
    asked = {"base": suggestions, "page_view_id": "p-1", "limit": 2}
    replies = [(await town.decide("anon:a", context=APPLE, **asked))["decision"] for _ in range(3)]
    shown = [[item["id"] for item in reply["items"]] for reply in replies]
    assert shown == [["capped", "x"], ["y", "z"], []]
    other = (await town.decide("anon:a", **{**asked, "page_view_id": "p-2"}))["decision"]
    assert [item["id"] for item in other["items"]] == ["x", "y"]
    again = await town.ask_partition(int(replies[1]["decisionId"].split("_")[1]), "decision",
                                     {"decision_id": replies[1]["decisionId"], "replay": True})  # fmt: skip
    assert again["record"]["identical"] is True


async def test_signals_and_decisions_read_a_segment_by_the_same_variant() -> None:
    book = orjson.loads(orjson.dumps(BOOK))
    looser = {"segments.deep.all[0].above": 0.3, "segments.deep.all[0].leave_below": 0.2}
    book["campaigns"]["cart"]["experiments"] = {"depth": {"variants": {"looser": looser, "same": looser}}}
    town = await Town(n_shards=1).start(book)
    await town.observe("anon:a", signal("page"), scroll(0.4))
    assert (await town.profile("anon:a"))["segments"] == {"cart.deep": T0}
    decision = (await town.decide("anon:a"))["decision"]
    assert set(decision["variants"]) == {"depth"}
    assert decision["segments"] == ["deep"]
    await town.stop()


async def test_an_unknown_placement_is_an_error_and_no_decision(town: Town) -> None:
    assert (await town.decide("anon:a", placement="nowhere"))["error"]["status"] == 404


async def test_an_expired_request_is_dropped_before_it_is_evaluated(town: Town) -> None:
    reply = await town.decide("anon:a", deadline_ms=T0 - 1)
    assert reply["unavailable"]["code"] == "deadline_exceeded"
    assert (await town.ask("anon:a", "profile", {"track": "anon:a"}))["error"]["status"] == 404


async def test_a_replay_is_identical_after_a_restart_a_new_book_and_a_new_model(town: Town) -> None:
    await town.observe("anon:a", signal("page"), scroll(0.9))
    decision_id = (await town.decide("anon:a"))["decision"]["decisionId"]
    changed = orjson.loads(orjson.dumps(BOOK))
    del changed["campaigns"]["cart"]["offers"]["free"]
    version = await town.publish(changed)
    for index in (0, 1):
        await town.kill(index)
        await town.start_shard(index)
    assert all(s.worlds.current is not None and s.worlds.current.book.version == version for s in town.shards.values())
    shown = await town.ask_partition(
        int(decision_id.split("_")[1]), "decision", {"decision_id": decision_id, "replay": True}
    )
    assert shown["record"]["replay"] == {"identical": True, "differs": []}


async def test_erased_is_erased(town: Town) -> None:
    await town.observe("anon:a", signal("page"), scroll(0.9))
    await town.link("anon:a", "user:u")
    await town.observe("user:u", signal("click"))
    await town.observe("anon:other", signal("page"))
    other = (await town.decide("anon:other"))["decision"]["decisionId"]
    receipt = (await town.ask("user:u", "erase", {"track": "user:u"}))["receipt"]
    assert receipt["status"] == "pending"
    while receipt["status"] != "done":
        receipt = (await town.ask("user:u", "erase", {"track": "user:u"}))["receipt"]
    assert receipt["n_tracks"] == 2
    everything = b""
    for p in range(8):
        everything += b"".join(payload for _, payload in await town.stores.journal.read(p, None, 10_000))
        for track in [t async for t in town.stores.snapshots.tracks(p)]:
            everything += track.encode()
    assert b"anon:a" not in everything
    assert b"user:u" not in everything
    assert "record" in await town.ask_partition(int(other.split("_")[1]), "decision", {"decision_id": other})
    assert (await town.observe("anon:a", signal("page")))["results"] == ["accepted"]
    assert (await town.profile("anon:a"))["identities"] == ["anon:a"]


async def test_a_reward_for_one_decision_is_none_for_another_also_after_a_restart() -> None:
    town = await Town(n_shards=1, n_partitions=2).start()
    home = partition_of("anon:a", 2)
    given = [(await town.decide("anon:a"))["decision"]["decisionId"] for _ in range(3)]
    for value, decision_id in enumerate(given[:2]):
        reward = {"decision_id": decision_id, "value": float(value), "type": "sale"}
        assert (await town.ask_partition(home, "reward", reward))["status"] == "recorded"
    for _ in range(2):
        shown = [(await town.ask_partition(home, "decision", {"decision_id": one}))["record"] for one in given]
        assert [record["rewards"] for record in shown] == [{"sale": 0.0}, {"sale": 1.0}, {}]
        await town.shards[0].stop()
        await town.start_shard(0)
    await town.stop()
