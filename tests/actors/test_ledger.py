"""What the ledger of budgets must keep to, run over the in-memory documents and over a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.leases import Balance, Leases
from actors.ledger import Ledger, Life
from actors.memory import MemoryDocuments
from actors.stores import Stores
from engine.book import compile_book, load_book
from engine.errors import Fenced as FencedError
from engine.errors import Unavailable
from engine.terms import CompiledBudget
from tests.actors.town import BOOK
from tests.engine.builders import T0


@pytest.fixture
def ledger(stores: Stores) -> Ledger:
    return Ledger(stores.documents)


async def test_grants_never_add_up_to_more_than_the_limit(ledger: Ledger) -> None:
    assert await ledger.grant("a", "0.1.0", 6, 10, None) == 6
    assert await ledger.grant("a", "1.2.0", 6, 10, None) == 4
    assert await ledger.grant("a", "2.3.0", 6, 10, None) == 0
    assert (await ledger.account("a")).given == 10


async def test_asking_for_less_gives_back_and_the_same_again_changes_nothing(ledger: Ledger) -> None:
    await ledger.grant("a", "0.1.0", 8, 10, 5)
    assert await ledger.grant("a", "0.1.0", 3, 10, 5) == 3
    assert await ledger.grant("a", "0.1.0", 3, 10, 5) == 3
    assert await ledger.grant("a", "1.2.0", 9, 10, 5) == 7


async def test_a_lowered_limit_takes_nothing_back_that_may_have_been_spent(ledger: Ledger) -> None:
    await ledger.grant("a", "0.1.0", 8, 10, None)
    assert await ledger.grant("a", "0.1.0", 9, 4, None) == 8
    assert await ledger.grant("a", "1.2.0", 1, 4, None) == 0


async def test_many_at_once_stay_within_the_limit(ledger: Ledger) -> None:
    granted = await asyncio.gather(*(ledger.grant("a", f"{i}.1.0", 3, 20, None) for i in range(12)))
    assert sum(granted) == 20


async def test_what_is_leased_is_a_multiple_of_what_a_serving_takes(ledger: Ledger) -> None:
    assert await ledger.grant("a", "0.1.0", 7.5, 11, None, quantum=2.5) == 7.5
    assert await ledger.grant("a", "1.2.0", 7.5, 11, None, quantum=2.5) == 2.5
    assert await ledger.grant("a", "2.3.0", 7.5, 11, None, quantum=0) == 1


async def test_settling_counts_once_and_gives_the_rest_back(ledger: Ledger) -> None:
    await ledger.grant("a", "0.1.0", 8, 10, None)
    await ledger.settle("a", "0.1.0", 5)
    await ledger.settle("a", "0.1.0", 5)
    account = await ledger.account("a")
    assert (account.settled, account.grants) == (5, {})
    assert await ledger.grant("a", "1.2.0", 9, 10, None) == 5


async def test_a_closed_life_can_say_nothing_more(ledger: Ledger) -> None:
    told = Life({3: [7]}, {3: (7, 4)}, {"a": 2.0})
    assert await ledger.write("0.1.0", told)
    closed = await ledger.close("0.1.0")
    assert closed == Life({3: [7]}, {3: (7, 4)}, {"a": 2.0}, closed=True)
    assert not await ledger.write("0.1.0", told)
    await ledger.forget("0.1.0")
    assert await ledger.lives() == {}
    assert await ledger.close("0.1.0") is None


async def test_accounts_are_listed_and_dropped(ledger: Ledger) -> None:
    await ledger.grant("a@1", "0.1.0", 1, 1, 99)
    assert {name: a.until_ms for name, a in (await ledger.accounts()).items()} == {"a@1": 99}
    await ledger.drop("a@1")
    assert await ledger.accounts() == {}


# -- one shard's share, without a store ----------------------------------------------------------------


def budget(most: float = 100.0, unit: str = "servings", **more: object) -> CompiledBudget:
    data = {
        **BOOK,
        "campaigns": {
            "c": {
                **BOOK["campaigns"]["cart"],
                "offers": {
                    "o": {"content": "x", "cost": 2, "budget": {"max": most, "unit": unit, "per": "1d", **more}}
                },
                "segments": {},
            }
        },
    }
    return compile_book(load_book(data), "b1").needs.by_offer["c.o"]


def leases(one: CompiledBudget, granted: float) -> Leases:
    period, account = one.period(T0), one.account(one.period(T0))
    return Leases({account: Balance(one, period, granted)}, {1: 5})


REFUSED, UNKNOWN = FencedError("fenced", ""), Unavailable("store_uncertain", "")
steps = st.lists(
    st.sampled_from(["take", "supersede", "lost", "unknown", "follows", "expires"]), min_size=1, max_size=60
)


@given(steps, st.sampled_from(["servings", "impressions", "redemptions"]), st.integers(0, 12))
@settings(max_examples=150, deadline=None)
def test_what_a_life_spends_never_exceeds_its_grant_and_what_comes_back_is_there_again(
    moves: list[str], unit: str, granted: int
) -> None:
    one = budget(unit=unit)
    held = leases(one, float(granted))
    now, n = T0, 0
    open_: dict[str, list[list[object]]] = {}
    for move in moves:
        if move in ("take", "lost", "unknown") and held.left(one, now, 1, 5) >= 1:
            n += 1
            charge = held.take(one, 1.0, now, 1, (f"d{n}", "o"), "anon:a")
            held.committed(held.seal(), {"take": {}, "lost": {1: REFUSED}, "unknown": {1: UNKNOWN}}[move])
            if move == "take":
                open_[f"d{n}"] = [charge]
        elif move == "supersede" and open_:
            decision, charges = open_.popitem()
            held.give_back(1, charges, now, decision)
            held.committed(held.seal(), {})
        elif move == "follows" and open_:
            held.seen(open_.popitem()[0], "o")
        elif move == "expires":
            now += 3 * 60 * 60_000
            held.expire(now)
            if one.hold_ms:
                open_.clear()
        (balance,) = held.balances.values()
        assert 0 <= balance.spent <= granted
        assert balance.spent >= held.in_doubt


def test_nothing_is_spent_before_the_ledger_knows_the_epoch() -> None:
    one = budget()
    held = leases(one, 3.0)
    assert (held.left(one, T0, 1, 5), held.left(one, T0, 1, 6), held.left(one, T0, 2, 5)) == (3, 0, 0)


def test_a_track_that_leaves_keeps_what_it_took() -> None:
    one = budget(unit="impressions")
    held = leases(one, 2.0)
    held.take(one, 1.0, T0, 1, ("d1", "o"), "anon:a")
    held.take(one, 1.0, T0, 1, ("d2", "o"), "anon:b")
    held.committed(held.seal(), {})
    held.keep("anon:a")
    assert held.expire(T0 + 10**8) == 1
    assert held.left(one, T0, 1, 5) == 1


def test_an_even_pace_lets_a_part_of_the_budget_out_at_a_time() -> None:
    one = budget(1000, pace="even")
    period = one.period(T0)
    noon = (period.start_ms + int(period.end_ms)) // 2
    assert one.limit(period.start_ms, period) == 100
    assert one.limit(noon, period) == 600
    assert one.limit(int(period.end_ms) - 1, period) == 1000


async def test_an_even_pace_holds_over_a_whole_day_of_grants() -> None:
    ledger, one = Ledger(MemoryDocuments()), budget(240, pace="even")
    period = one.period(T0)
    given = []
    for hour in range(24):
        now = period.start_ms + hour * 3_600_000
        await ledger.grant("a", "0.1.0", 10**9, one.limit(now, period), None)
        given.append((await ledger.account("a")).given)
    assert given == [24 + 10 * hour if 24 + 10 * hour < 240 else 240 for hour in range(24)]


# -- many lives over one ledger that may fail at every step --------------------------------------------


class Failing(MemoryDocuments):
    """Documents whose next change is lost on its way there, or on its way back."""

    next: str = ""

    async def compare_and_set(self, name: str, expected_rev: int, document: Mapping[str, Any]) -> bool:
        fault, self.next = self.next, ""
        if fault == "lost":
            raise Unavailable("store_unavailable", "before it was written")
        done = await super().compare_and_set(name, expected_rev, document)
        if fault == "answer lost":
            raise Unavailable("store_unavailable", "after it was written")
        return done


moves = st.lists(
    st.tuples(
        st.sampled_from(["refill", "spend", "shrink", "kill", "lower"]),
        st.integers(0, 2),
        st.integers(1, 9),
        st.sampled_from(["", "", "lost", "answer lost"]),
    ),
    max_size=60,
)


@given(moves, st.integers(1, 30))
@settings(max_examples=120, deadline=None)
def test_no_order_of_leases_spending_deaths_and_lost_answers_overspends(
    steps: list[tuple[str, int, int, str]], limit: int
) -> None:
    """`journal` is what each life has really spent; what it believes of its grant is what the shard would."""

    async def play() -> None:
        documents = Failing()
        ledger, generation = Ledger(documents), [0, 0, 0]
        granted: dict[str, float] = {}
        journal: dict[str, float] = {}
        top = limit
        for move, shard, amount, fault in steps:
            life = f"{shard}.{generation[shard]}"
            held, spent = granted.setdefault(life, 0.0), journal.setdefault(life, 0.0)
            documents.next = fault
            with suppress(Unavailable):
                if move == "refill":
                    granted[life] = await ledger.grant("a", life, spent + amount, top, None)
                elif move == "spend" and held - spent >= 1:
                    journal[life] += 1
                elif move == "shrink" and held - spent > 1:
                    granted[life] = spent + 1
                    granted[life] = await ledger.grant("a", life, spent + 1, top, None)
                elif move == "kill":
                    await ledger.settle("a", life, spent)
                    generation[shard] += 1
                elif move == "lower":
                    top = max(1, top - 1)
            documents.next = ""
            if move == "kill" and generation[shard] == int(life.partition(".")[2]):
                # Whoever settles next does so again.
                await ledger.settle("a", life, spent)
                generation[shard] += 1
            assert sum(journal.values()) <= (await ledger.account("a")).given <= limit
        for life, spent in journal.items():
            await ledger.settle("a", life, spent)
        account = await ledger.account("a")
        assert (account.settled, account.grants) == (sum(journal.values()), {})

    asyncio.run(play())
