"""Budgets in shards: leased ahead, spent once, given back, settled after a death; never more than there is."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from actors.ledger import Ledger
from actors.memory import Fault, MemoryDocuments, MemoryJournal, memory_stores
from engine.errors import Unavailable
from tests.actors.town import BOOK, Town, until
from tests.engine.builders import T0, signal

pytestmark = pytest.mark.timeout(60)


def book(most: float = 5, unit: str = "servings", **more: Any) -> dict[str, Any]:
    data = copy.deepcopy(BOOK)
    offer = {"content": "x", "value": 30, "cost": 2, "budget": {"max": most, "unit": unit, "per": "1d"}, **more}
    data["campaigns"]["cart"]["offers"] = {"rare": offer}
    return data


async def leased(town: Town, account_of: str = "cart.rare") -> None:
    """Wait until every shard has leased of the budget."""

    def held() -> bool:
        return all(
            any(a.startswith(account_of) and b.granted > 0 for a, b in s.treasury.leases.balances.items())
            for s in town.shards.values()
        )

    await until(held)


async def given(town: Town) -> float:
    """How much of all budgets is out or gone."""
    return sum(a.given for a in (await Ledger(town.stores.documents).accounts()).values())


def shown(reply: dict[str, Any]) -> list[str]:
    return [item["id"] for item in reply["decision"]["items"]]


async def serve(town: Town, n: int, start: int = 0) -> int:
    replies = await asyncio.gather(*(town.decide(f"anon:{i}", limit=1) for i in range(start, start + n)))
    return sum("rare" in shown(reply) for reply in replies)


async def drained(town: Town) -> bool:
    """Whether of this period nothing is left, neither in the ledger nor in a shard."""
    accounts = await Ledger(town.stores.documents).accounts()
    now_ms, left, seen = town.clock(), 0.0, False
    for shard in town.shards.values():
        for name, balance in shard.treasury.leases.balances.items():
            if balance.period.start_ms <= now_ms < balance.period.end_ms:
                seen, left = True, left + balance.left
                if name not in accounts or accounts[name].given + balance.budget.quantum <= balance.budget.max:
                    return False
    return seen and left < 1.0


async def serve_out(town: Town, start: int = 0) -> int:
    """Ask until there is nothing more to be had; returns how many were served."""
    served = 0
    while True:
        got = await serve(town, 10, start)
        served, start = served + got, start + 10
        if not got and await drained(town):
            return served
        await asyncio.sleep(0.001)


async def test_a_budget_is_spent_to_the_last_and_never_beyond() -> None:
    town = await Town().start(book(57))
    await leased(town)
    assert await serve_out(town) == 57
    assert await given(town) == 57
    reply = await town.decide("anon:late", explain=True)
    (told,) = reply["decision"]["explain"]["offers"]
    assert told["reason"] == "BUDGET"
    assert "of 57 servings" in told["text"]
    await town.stop()


async def test_before_anything_is_leased_the_answer_is_budget() -> None:
    stores = memory_stores()
    town = Town(replace(stores, documents=Away()))
    await town.start(book(5))
    assert await serve(town, 20) == 0
    await town.stop()


class Away(MemoryDocuments):
    """Documents that take nothing."""

    async def compare_and_set(self, name: str, expected_rev: int, document: Mapping[str, Any]) -> bool:
        raise Unavailable("store_unavailable", "away")


async def test_a_new_day_brings_a_new_budget() -> None:
    town = await Town().start(book(3))
    await leased(town)
    assert await serve_out(town) == 3
    town.clock.now_ms += 24 * 3_600_000
    assert await serve_out(town, 1000) == 3
    await town.stop()


async def test_cost_is_counted_in_money() -> None:
    town = await Town().start(book(11, unit="cost"))
    await leased(town)
    served = await serve_out(town)
    assert served == 5
    await town.stop()


async def test_a_shard_that_stops_gives_back_what_it_did_not_spend() -> None:
    town = await Town().start(book(40))
    await leased(town)
    served = await serve(town, 6)
    await town.stop()
    assert await given(town) == served
    assert await Ledger(town.stores.documents).lives() == {}


async def test_what_a_dead_shard_had_leased_is_settled_from_its_journal() -> None:
    town = await Town().start(book(40))
    await leased(town)
    served = 0
    while served < 20:
        served += await serve(town, 10, 10 * served)
        await asyncio.sleep(0.003)
    await town.kill(0)
    await town.start_shard(0)
    await until(lambda: any(s.treasury.settled for s in town.shards.values()))
    served += await serve_out(town, 1000)
    assert served == 40
    await town.stop()


async def test_a_superseded_decision_gives_back() -> None:
    town = await Town().start(book(1))
    await leased_any(town)
    first = await serve_one(town)
    assert await serve(town, 10, 500) == 0
    reply = await town.ask(first["track"], "supersede", {"track": first["track"], "decision_id": first["id"]})
    again = await town.ask(first["track"], "supersede", {"track": first["track"], "decision_id": first["id"]})
    assert (reply, again) == ({"status": "superseded"}, {"status": "superseded"})
    assert await serve_out(town, 2000) == 1
    await town.stop()


async def leased_any(town: Town) -> None:
    await until(lambda: any(b.granted for s in town.shards.values() for b in s.treasury.leases.balances.values()))


async def serve_one(town: Town) -> dict[str, Any]:
    for i in range(10_000):
        track = f"anon:one-{i}"
        reply = await town.decide(track)
        if "rare" in shown(reply):
            return {"track": track, "id": reply["decision"]["decisionId"]}
        await asyncio.sleep(0)
    raise AssertionError("nothing was served")


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.UNCERTAIN_LOST, Fault.UNCERTAIN_WRITTEN])
async def test_an_answer_that_is_not_recorded_offers_nothing_budgeted(fault: Fault) -> None:
    journal = MemoryJournal()
    town = await Town(memory_stores(journal), n_shards=1).start(book(5))
    await leased(town)
    journal.fail_next(fault)
    reply = await town.decide("anon:a", explain=False)
    assert (reply["decision"]["recorded"], shown(reply)) == (False, [])
    served = await serve_out(town)
    # What nobody knows of stays spent; what surely was not written is there again.
    assert served == (5 if fault is Fault.REFUSED else 4)
    assert town.shards[0].told()["budget_in_doubt"] == 5 - served
    await town.stop()


@pytest.mark.parametrize(("unit", "follows"), [("impressions", "offer_viewed"), ("redemptions", "offer_redeemed")])
async def test_what_does_not_follow_a_serving_comes_back(unit: str, follows: str) -> None:
    town = await Town(n_shards=1).start(book(4, unit=unit))
    await leased(town)
    served = [await serve_one(town) for _ in range(1)]
    for i in range(60):
        reply = await town.decide(f"anon:more-{i}")
        if "rare" in shown(reply):
            served.append({"track": f"anon:more-{i}", "id": reply["decision"]["decisionId"]})
        await asyncio.sleep(0.001)
    assert len(served) == 4
    for one in served[:3]:
        seen = signal(follows, T0, decision_id=one["id"], offer_id="rare")
        assert (await town.observe(one["track"], seen))["results"] == ["accepted"]
    town.clock.now_ms += 32 * 60_000
    await until(lambda: town.shards[0].treasury.leases.n_pending == 0)
    assert await serve_out(town, 5000) == 1
    await town.stop()


async def test_a_decision_with_a_budget_replays_identically_and_rebuilds_exactly() -> None:
    town = await Town(n_shards=1).start(book(2))
    await leased(town)
    one = await serve_one(town)
    partition = int(one["id"].split("_")[1])
    shown_ = await town.ask_partition(partition, "decision", {"decision_id": one["id"], "replay": True})
    assert shown_["record"]["identical"] is True
    before = town.shards[0].partitions[partition].live[one["track"]].snapshot()
    await town.kill(0)
    await town.start_shard(0)
    await town.profile(one["track"])
    after = town.shards[0].partitions[partition].live[one["track"]].snapshot()
    assert orjson.dumps(after) == orjson.dumps(before)
    await town.stop()


async def test_a_life_that_was_taken_for_dead_goes_on_as_another() -> None:
    town = await Town(n_shards=1).start(book(30))
    await leased(town)
    treasury = town.shards[0].treasury
    ledger, life = Ledger(town.stores.documents), treasury.life
    assert await ledger.close(life) is not None
    treasury.leases.open_epochs.clear()
    await until(lambda: treasury.life != life and treasury.leases.open_epochs)
    await leased(town)
    assert await serve(town, 1) == 1
    await town.stop()
