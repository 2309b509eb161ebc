"""Experiments and thresholds read from a real journal, written by shards."""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.calibrating import find_segment, recorded_sessions
from actors.experiments import ExperimentReader
from actors.history import History
from actors.memory import memory_stores
from engine.book import compile_book, load_book
from engine.errors import InvalidInput, NotFound
from serving.cli.calibrate import lines_of, proposals
from serving.cli.experiments import lines_of as experiment_lines
from tests.actors.town import BOOK, Town, scroll
from tests.engine.builders import MINUTE, signal

CAMPAIGN: dict[str, Any] = {
    **BOOK["campaigns"]["cart"],
    "experiments": {"depth": {"variants": {"control": {}, "lower": {"segments.deep.all[0].above": 0.6}}}},
}
BOOK_WITH: dict[str, Any] = {**BOOK, "campaigns": {"cart": CAMPAIGN}}
N = 64


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    """Visitors who read more or less of a page and are decided for; who reads beyond 65 % buys."""
    made = await Town(memory_stores(), n_partitions=2).start(BOOK_WITH)
    for n in range(N):
        track, share = f"anon:{n}", (n + 0.5) / N
        await made.observe(track, scroll(share, made.clock.now_ms))
        await made.decide(track)
        if share > 0.65:
            order = signal("order_completed", made.clock.now_ms + 1, message=n + 10**6, order_id=f"o{n}", value=20.0)
            await made.observe(track, order)
    made.clock.now_ms += 30 * MINUTE
    yield made
    await made.stop()


async def test_the_journal_tells_who_was_exposed_and_who_converted(town: Town) -> None:
    reader = ExperimentReader(town.stores, History(town.stores.journal, None), town.clock)
    assert await reader.advance() > 0
    (told,) = await reader.results()
    assert told["experiment"] == "cart.depth"
    assert sum(v["assigned"] for v in told["variants"]) == N
    # The variants differ for those between the two thresholds alone.
    exposed = sum(v["exposed"] for v in told["variants"])
    assert exposed == sum(0.6 < (n + 0.5) / N <= 0.7 for n in range(N))
    assert sum(v["matured"] for v in told["variants"]) == exposed
    bought = sum(v["conversion"]["mean"] * v["matured"] for v in told["variants"])
    assert bought == sum(0.65 < (n + 0.5) / N <= 0.7 for n in range(N))
    assert told["outcomesAfterS"] == 5 * 60 + 60 + 5
    lines = list(experiment_lines([told]))
    assert any("minus control" in line for line in lines)
    assert any(f"known of {exposed} of {exposed} exposed visitors, of each 6m5s after" in line for line in lines)


@pytest.mark.parametrize("told_by", ["signals", "decision"])
async def test_who_turns_out_to_be_a_bot_leaves_its_experiment(town: Town, told_by: str) -> None:
    reader = ExperimentReader(town.stores, History(town.stores.journal, None), town.clock)
    await town.decide("anon:robot")
    await reader.advance()
    assert sum(v["assigned"] for v in (await reader.results())[0]["variants"]) == N + 1
    pages = [signal("page", town.clock.now_ms - 9000 + i * 300, message=i + 1) for i in range(26)]
    await town.observe("anon:robot", *pages[:25])
    if told_by == "signals":
        await town.observe("anon:robot", pages[25])
    else:
        assert (await town.decide("anon:robot"))["decision"]["reason"] == "BOT"
    await reader.advance()
    assert sum(v["assigned"] for v in (await reader.results())[0]["variants"]) == N


async def test_before_its_window_is_over_nothing_is_said_of_an_outcome(town: Town) -> None:
    at_once = town.clock.now_ms - 30 * MINUTE
    reader = ExperimentReader(town.stores, History(town.stores.journal, None), lambda: at_once)
    await reader.advance()
    (told,) = await reader.results()
    exposed = sum(v["exposed"] for v in told["variants"])
    lines = list(experiment_lines([told]))
    assert any(f"known of 0 of {exposed} exposed visitors" in line for line in lines)
    assert sum("no outcome known yet" in line for line in lines) == 2
    assert not any("0.0000" in line for line in lines)


async def test_reading_on_adds_what_is_new_and_nothing_twice(town: Town) -> None:
    reader = ExperimentReader(town.stores, History(town.stores.journal, None), town.clock)
    await reader.advance()
    before = await reader.results()
    assert await reader.advance() == 0
    assert await reader.results() == before
    await town.decide("anon:new")
    await reader.advance()
    (told,) = await reader.results()
    assert sum(v["assigned"] for v in told["variants"]) == N + 1


@pytest.mark.parametrize(("turn_ms", "shares"), [(499, []), (500, [0.5]), (1_000, [0.0, 0.5])])
async def test_a_reading_that_takes_its_time_tells_now_and_then_how_far_it_is(
    town: Town, turn_ms: int, shares: list[float]
) -> None:
    told: list[float] = []

    async def tell(share: float) -> None:
        told.append(share)

    turns = itertools.count(town.clock.now_ms, turn_ms)
    reader = ExperimentReader(town.stores, History(town.stores.journal, None), lambda: next(turns))
    await reader.advance(tell)
    assert told == shares


async def test_a_threshold_is_proposed_from_recorded_sessions(town: Town) -> None:
    book = compile_book(load_book(BOOK_WITH), "b")
    sessions = await recorded_sessions(town.stores, History(town.stores.journal, None), book, "deep", town.clock)
    assert len(sessions.converted) == N
    found = proposals(sessions, 0.95, "converts")
    (clause,) = found["clauses"]
    assert (clause["path"], clause["feature"], clause["threshold"]) == ("all[0]", "scroll_share", 0.7)
    assert clause["now"]["precision"] == 1.0
    assert clause["now"]["recall"] < 0.9
    assert clause["proposed"]["recall"] == 1.0
    assert 0.6 < clause["proposed"]["threshold"] < 0.67
    assert any("proposed  above" in line for line in lines_of(sessions, 0.95, "converts"))


async def test_sessions_whose_window_is_open_are_told_to_be_waited_for(town: Town) -> None:
    book = compile_book(load_book(BOOK_WITH), "b")
    history = History(town.stores.journal, None)
    few = await recorded_sessions(town.stores, history, book, "deep", lambda: town.clock.now_ms - 30 * MINUTE)
    with pytest.raises(InvalidInput, match=f"0 sessions with outcomes; 50 are needed; {N} more wait"):
        proposals(few, 0.95, "converts")
    for n in range(7):
        await town.decide(f"anon:late{n}")
    sessions = await recorded_sessions(town.stores, history, book, "deep", town.clock)
    assert (len(sessions.converted), sessions.n_waiting) == (N, 7)
    assert any("7 more wait" in line for line in lines_of(sessions, 0.95, "converts"))


async def test_a_clause_beside_one_that_nobody_fulfilled_has_nothing_to_propose(town: Town) -> None:
    data = copy.deepcopy(BOOK_WITH)
    data["campaigns"]["cart"]["segments"]["deep"]["all"].append({"feature": "n_clicks", "above": 5})
    book = compile_book(load_book(data), "b")
    sessions = await recorded_sessions(town.stores, History(town.stores.journal, None), book, "deep", town.clock)
    assert proposals(sessions, 0.95, "converts")["clauses"][0]["proposed"] is None
    assert any("no session fulfilled the other clauses" in line for line in lines_of(sessions, 0.95, "converts"))


async def test_those_who_leave_can_be_what_is_looked_for(town: Town) -> None:
    book = compile_book(load_book(BOOK_WITH), "b")
    sessions = await recorded_sessions(town.stores, History(town.stores.journal, None), book, "deep", town.clock)
    (clause,) = proposals(sessions, 0.95, "leaves")["clauses"]
    assert clause["proposed"] is None
    assert clause["now"]["precision"] == 0.0


def test_a_segment_is_found_by_either_name() -> None:
    book = compile_book(load_book(BOOK_WITH), "b")
    assert find_segment(book, "deep")[1] is find_segment(book, "cart.deep")[1]
    with pytest.raises(NotFound, match="did you mean"):
        find_segment(book, "deeep")
