"""Rollouts move what is in force in every shard, survive kills at every step, and write down what they did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from actors.memory import memory_stores
from engine.book import load_book
from engine.errors import Conflict, InvalidInput, NotFound
from tests.actors.town import BOOK, Town
from tests.actors.trials import a_town, arms, publisher_of, rollouts_of
from tests.training.rollouts import SHORT, crowd, example
from training.rollout import Phase

CANARY, HALF = "canary-0.1", "canary-0.5"


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    made = await a_town()
    yield made
    await made.stop()


async def pointer(town: Town) -> Any:
    return (await town.stores.versions.world()).get("rollout")


async def to_the_last_stage(town: Town, rollouts: Any) -> None:
    await rollouts.look(list(crowd(20_000, noise=0.02)))
    town.clock.now_ms += 11_000
    await rollouts.look()
    await rollouts.look(list(crowd(1000, seed=2, stage=CANARY, share=0.1, who="v")))
    town.clock.now_ms += 11_000
    await rollouts.look()
    assert (await pointer(town))["share"] == 0.5


async def test_a_good_candidate_goes_from_shadow_to_every_visitor_by_itself(town: Town) -> None:
    rollouts = rollouts_of(town)
    submitted = await rollouts.submit("model", "m1", "the nightly training")
    assert (submitted.id, submitted.phase) == ("r1", Phase.RUNNING)
    assert set(await arms(town)) == {"prior-1"}, "in shadow it only scores"
    await to_the_last_stage(town, rollouts)
    assert set(await arms(town)) == {"prior-1", "m1"}
    assert rollouts.under_way
    await rollouts.look(list(crowd(20_000, seed=3, stage=HALF, share=0.5, who="w", noise=0.02)))
    town.clock.now_ms += 11_000
    [event] = await rollouts.look()
    assert event.what == "promoted in canary 50 %"
    assert set(await arms(town)) == {"m1"}
    assert await pointer(town) is None
    assert not rollouts.under_way


async def test_a_bad_one_goes_back_and_every_shard_decides_with_the_champion(town: Town) -> None:
    rollouts = rollouts_of(town)
    await rollouts.submit("model", "m1", "")
    await to_the_last_stage(town, rollouts)
    [event] = await rollouts.look(list(crowd(4000, seed=4, stage=HALF, share=0.5, times=0.5, who="w")))
    assert event.what == "rolled_back in canary 50 %"
    assert "conversion" in event.why
    assert event.numbers["exposed"] > 100
    assert set(await arms(town)) == {"prior-1"}


async def test_a_person_rolls_back_and_every_shard_has_heard_it_when_the_verb_returns(town: Town) -> None:
    rollouts = rollouts_of(town)
    await rollouts.submit("model", "m1", "")
    await to_the_last_stage(town, rollouts)
    assert "m1" in await arms(town)
    by_hand = rollouts_of(town)  # another process: it shares nothing but the store
    after = await by_hand.roll_back("r1", "ann", "complaints")
    assert (after.phase, after.reason) == (Phase.ROLLED_BACK, "complaints")
    for index in town.shards:
        shard = town.shards[index]
        assert shard.worlds.current is not None
        assert shard.worlds.current.rollout is None
    assert set(await arms(town)) == {"prior-1"}
    assert await rollouts.look(list(crowd(50, stage=HALF, share=0.5))) == []


async def test_newer_candidates_wait_and_the_newest_supersedes(town: Town) -> None:
    rollouts = rollouts_of(town)
    for version in ("m1", "m2", "m3"):
        await rollouts.submit("model", version, "")
    status = await rollouts.status()
    assert (status["running"]["candidate"], status["waiting"]["candidate"]) == ("m1", "m3")
    assert "supersedes" in status["policy"]
    await rollouts.promote("r1", "ann")
    [started] = await rollouts.look()
    assert (started.rollout, started.what) == ("r3", "started")
    assert (await rollouts.status())["running"]["champion"] == "m1"
    assert (await pointer(town))["candidate"] == "m3"


async def test_what_is_not_there_is_in_force_or_is_submitted_already_is_refused(town: Town) -> None:
    rollouts = rollouts_of(town)
    with pytest.raises(NotFound, match="no model m99"):
        await rollouts.submit("model", "m99", "")
    with pytest.raises(Conflict, match="in force"):
        await rollouts.submit("model", "prior-1", "")
    with pytest.raises(InvalidInput):
        await rollouts.submit("offer", "m1", "")  # type: ignore[arg-type]
    versions = town.stores.versions
    await versions.put("model", "strange", {"servable": False, "why_not": "other columns"}, b"s")
    with pytest.raises(InvalidInput, match="other columns"):
        await rollouts.submit("model", "strange", "")
    gates = [{"gate": "leak", "verdict": "passed", "sentence": ""}, {"verdict": "refused", "sentence": "worse by far"}]
    await versions.put("model", "worse", {"servable": True, "gates": gates}, b"w")
    with pytest.raises(InvalidInput, match="worse by far"):
        await rollouts.submit("model", "worse", "")
    await rollouts.submit("model", "m1", "")
    with pytest.raises(Conflict, match="already"):
        await rollouts.submit("model", "m1", "")
    with pytest.raises(NotFound):
        await rollouts.roll_back("r7", "ann")


async def test_a_champion_replaced_by_hand_ends_the_comparison(town: Town) -> None:
    rollouts = rollouts_of(town)
    await rollouts.submit("model", "m1", "")
    await publisher_of(town).publish_model("m5")
    [event] = await rollouts.look()
    assert event.what == "rolled_back in shadow"
    assert "replaced by m5" in event.why
    assert set(await arms(town)) == {"m5"}


async def test_a_candidate_that_a_shard_cannot_load_goes_back_at_once(town: Town) -> None:
    async def broken(version: str) -> Any:
        raise LookupError(f"{version} is not whole")

    for shard in town.shards.values():
        shard.worlds._load_model = broken
    rollouts = rollouts_of(town)
    await rollouts.submit("model", "m1", "")
    [event] = await rollouts.look()
    assert event.what == "rolled_back in shadow"
    assert "m1 is not whole" in event.why
    assert set(await arms(town)) == {"prior-1"}


async def test_a_pause_keeps_the_arms_and_a_resumption_goes_on(town: Town) -> None:
    rollouts = rollouts_of(town)
    await rollouts.submit("model", "m1", "")
    await to_the_last_stage(town, rollouts)
    await rollouts.pause("r1", "ann", "a sale")
    town.clock.now_ms += 10**9
    assert await rollouts.look() == [], "beyond every horizon"
    assert "m1" in await arms(town)
    assert (await rollouts.resume("r1", "ann")).phase is Phase.RUNNING
    assert await rollouts.look() == []


async def test_a_kill_between_board_and_pointer_is_made_good_by_whoever_comes_next(town: Town) -> None:
    class Killed(Exception):
        pass

    class DiesOnce:
        """A publisher whose process is killed before its nth move."""

        def __init__(self, after: int) -> None:
            self.left, self.inner = after, publisher_of(town)

        def __getattr__(self, name: str) -> Any:
            async def move(*args: Any, **named: Any) -> Any:
                self.left -= 1
                if self.left < 0:
                    raise Killed
                return await getattr(self.inner, name)(*args, **named)

            return move

    rollouts = rollouts_of(town)
    rollouts._alignment._moves = DiesOnce(0)
    with pytest.raises(Killed):
        await rollouts.submit("model", "m1", "")
    assert await pointer(town) is None
    heir = rollouts_of(town)
    await heir.begin()
    assert (await pointer(town))["id"] == "r1"
    heir._alignment._moves = DiesOnce(0)
    with pytest.raises(Killed):
        await heir.promote("r1", "ann")
    assert set(await arms(town)) == {"prior-1"}
    await rollouts_of(town).begin()
    assert set(await arms(town)) == {"m1"}
    audit = (await heir.status())["audit"]
    assert [line["what"] for line in audit] == ["promoted in shadow", "started", "submitted"]


async def test_what_is_held_of_visitors_is_one_state_and_what_is_told_again_changes_nothing(town: Town) -> None:
    first = rollouts_of(town)
    await first.submit("model", "m1", "")
    stream = list(crowd(500, noise=0.02))
    await first.look(stream[:400])
    first.take(stream[400:])
    kept = orjson.loads(orjson.dumps(first.state()))
    town.clock.now_ms += 2000
    await first.look()
    told = (await first.status())["running"]["evidence"]
    assert told["users"] == 500
    heir = rollouts_of(town)
    heir.restore(kept)
    await heir.begin()
    town.clock.now_ms += 2000
    await heir.look(stream[300:])
    assert (await heir.status())["running"]["evidence"] == told
    town.clock.now_ms += 2000
    await heir.look([example("late")])
    assert (await heir.status())["running"]["evidence"]["users"] == 501


async def test_the_evidence_of_an_ended_rollout_is_forgotten_and_its_numbers_stay(town: Town) -> None:
    rollouts = rollouts_of(town)
    await rollouts.submit("model", "m1", "")
    await rollouts.look(list(crowd(500, noise=0.02)))
    await rollouts.roll_back("r1", "ann")
    await rollouts.look()
    assert rollouts.state()["users"] is None
    assert (await rollouts.status())["audit"][0]["numbers"]["users"] == 500


async def test_the_expected_days_at_the_traffic_of_now_are_told_before_a_start(town: Town) -> None:
    rollouts = rollouts_of(town, replace(SHORT, stages=(*SHORT.stages[:2], replace(SHORT.stages[2], horizon_s=1e6))))
    assert (await rollouts.status())["expected"]["days"] is None, "nobody has come by yet"
    stream = [e._replace(t_ms=i * 1000) for i, e in enumerate(crowd(2000, rate=0.2))]
    await rollouts.look(stream)
    status = await rollouts_of(town).status()
    assert status["traffic"]["usersPerDay"] == pytest.approx(86_400, rel=0.01)
    assert 0.01 < status["expected"]["days"] < 2
    submitted = await rollouts.submit("model", "m1", "")
    line = next(line for line in (await rollouts.status())["audit"] if line["rollout"] == submitted.id)
    assert line["numbers"]["expected"]["withinHorizon"] is True


async def test_a_book_goes_through_the_same_machine(town: Town) -> None:
    data = {**BOOK, "campaigns": {"cart": {**BOOK["campaigns"]["cart"], "priority": 11}}}
    version = await publisher_of(town).keep_book(load_book(data), "source")
    rollouts = rollouts_of(town)
    book = await rollouts.submit("book", version, "more priority", "ann", SHORT.for_book(0.1))
    assert book.at.share == 0.1
    await rollouts.look(list(crowd(1000, stage=CANARY, share=0.1)))
    town.clock.now_ms += 11_000
    await rollouts.look()
    await rollouts.look(list(crowd(40_000, seed=3, stage=HALF, share=0.5, who="w")))
    town.clock.now_ms += 11_000
    [event] = await rollouts.look()
    assert event.what == "promoted in canary 50 %"
    assert (await town.stores.versions.world())["book"] == version


async def test_two_who_look_at_once_do_one_step() -> None:
    town = await a_town(memory_stores())
    first, second = rollouts_of(town), rollouts_of(town)
    await first.submit("model", "m1", "")
    stream = list(crowd(20_000, noise=0.02))
    town.clock.now_ms += 11_000
    await first.look(stream)
    assert await second.look(stream) == []
    assert (await pointer(town))["stage"] == "canary"
    assert [line["what"] for line in (await first.status())["audit"]].count("stage") == 1
    await town.stop()
