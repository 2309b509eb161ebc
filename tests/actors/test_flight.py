"""While the journal writes one batch the next is evaluated; it is sent and told only once the first is durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.memory import Fault, MemoryJournal, memory_stores
from actors.stores import Entry
from tests.actors.town import Town, scroll, until
from tests.engine.builders import signal


class Held:
    """A gate before the journal: appends wait until they are let through, one at a time."""

    def __init__(self, journal: MemoryJournal) -> None:
        self.waiting: list[tuple[Sequence[Entry], asyncio.Event]] = []
        self._arrived = asyncio.Event()
        journal.gate = self._wait

    async def _wait(self, entries: Sequence[Entry]) -> None:
        go = asyncio.Event()
        self.waiting.append((entries, go))
        self._arrived.set()
        await go.wait()

    async def one(self) -> Sequence[Entry]:
        """Wait for an append to come."""
        async with asyncio.timeout(10):
            while not self.waiting:
                self._arrived.clear()
                await self._arrived.wait()
        return self.waiting[0][0]

    async def let_through(self) -> None:
        """Let the oldest go."""
        await self.one()
        self.waiting.pop(0)[1].set()


@pytest.fixture
async def town() -> AsyncIterator[tuple[Town, MemoryJournal]]:
    journal = MemoryJournal()
    town = await Town(memory_stores(journal), n_shards=1, n_partitions=1).start()
    yield town, journal
    journal.gate = None
    async with asyncio.timeout(10):
        await town.stop()


async def evaluated(town: Town, asked: list[asyncio.Future[Any]], n: int) -> None:
    """Until the shard has evaluated so many calls since the start of the test."""
    shard = town.shards[0]
    await until(lambda: shard.counts["calls"] >= n and not shard.n_waiting)
    assert not any(one.done() for one in asked)


async def test_the_next_batch_is_evaluated_while_one_is_written_and_sent_after_it(
    town: tuple[Town, MemoryJournal],
) -> None:
    here, journal = town
    n_before, held = here.shards[0].counts["calls"], Held(journal)
    first = asyncio.ensure_future(here.observe("anon:a", signal("page")))
    (entry,) = await held.one()
    second = asyncio.ensure_future(here.observe("anon:a", signal("page"), scroll(0.9)))
    await evaluated(here, [first, second], n_before + 2)
    assert len(held.waiting) == 1
    await held.let_through()
    (then,) = await held.one()
    assert (then.epoch, then.seq) == (entry.epoch, entry.seq + 1)
    assert (await first)["results"] == ["accepted"]
    assert not second.done()
    await held.let_through()
    # It was evaluated after the first: the page that both bring is one.
    assert (await second)["results"] == ["duplicate", "accepted"]


async def test_what_was_only_read_is_told_after_what_it_read_is_durable(town: tuple[Town, MemoryJournal]) -> None:
    here, journal = town
    n_before, held = here.shards[0].counts["calls"], Held(journal)
    first = asyncio.ensure_future(here.observe("anon:a", signal("page")))
    await held.one()
    again = asyncio.ensure_future(here.observe("anon:a", signal("page")))
    await evaluated(here, [first, again], n_before + 2)
    await held.let_through()
    assert (await again)["results"] == ["duplicate"]
    assert held.waiting == []


@pytest.mark.parametrize("fault", [None, *Fault])
async def test_who_is_under_way_does_not_wait_for_sleepers_of_the_next_batch(
    town: tuple[Town, MemoryJournal], monkeypatch: pytest.MonkeyPatch, fault: Fault | None
) -> None:
    here, journal = town
    shard, load, awake = here.shards[0], here.stores.snapshots.load, asyncio.Event()
    await here.observe("anon:a", signal("page"))
    held, asked = Held(journal), asyncio.Event()

    async def slow(keys: Sequence[tuple[int, str]]) -> list[bytes | None]:
        asked.set()
        await awake.wait()
        return await load(keys)

    monkeypatch.setattr(shard.snapshots, "load", slow)
    first = asyncio.ensure_future(here.observe("anon:a", scroll(0.5)))
    await held.one()
    sleeper = asyncio.ensure_future(here.observe("anon:b", signal("page")))
    async with asyncio.timeout(10):
        await asked.wait()
        assert not first.done()
        if fault is not None:
            journal.fail_next(fault)
        journal.gate = None
        await held.let_through()
        told = await first
    assert not sleeper.done()
    awake.set()
    then = await sleeper
    if fault is None:
        assert (told["results"], then["results"]) == (["accepted"], ["accepted"])
    else:
        assert told["unavailable"]["code"] == "not_durable"
        # The partition of both was dropped meanwhile, and is recovered.
        while "unavailable" in then:
            assert then["unavailable"]["code"] == "recovering"
            then = await here.observe("anon:b", signal("page"))
        assert then["results"] == ["accepted"]
    assert (await here.profile("anon:b"))["n_signals"] == 1


@pytest.mark.parametrize("fault", list(Fault))
async def test_what_was_evaluated_after_a_batch_that_failed_is_neither_written_nor_told(
    town: tuple[Town, MemoryJournal], fault: Fault
) -> None:
    here, journal = town
    n_before, held = here.shards[0].counts["calls"], Held(journal)
    first = asyncio.ensure_future(here.observe("anon:a", signal("page")))
    await held.one()
    second = asyncio.ensure_future(here.observe("anon:a", scroll(0.9)))
    third = asyncio.ensure_future(here.decide("anon:a"))
    await evaluated(here, [first, second, third], n_before + 3)
    journal.fail_next(fault)
    await held.let_through()
    # What comes to the journal next is the claim of a new epoch, not what was evaluated on top.
    (claim,) = await held.one()
    assert claim.seq == 0
    async with asyncio.timeout(10):
        *told, decided = await asyncio.gather(first, second, third)
    assert [one["unavailable"]["code"] for one in told] == ["not_durable"] * 2
    decision = decided["decision"]
    assert (decision["recorded"], decision["decisionId"]) == (False, None)
    assert len(held.waiting) == 1
    journal.gate = None
    await held.let_through()
    while "unavailable" in (reply := await here.observe("anon:a", signal("page"), scroll(0.9))):
        assert reply["unavailable"]["code"] == "recovering"
    written = "duplicate" if fault is Fault.UNCERTAIN_WRITTEN else "accepted"
    assert reply["results"] == [written, "accepted"]
    assert (await here.profile("anon:a"))["n_signals"] == 2


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_journal_that_raises_is_one_that_did_not_answer(
    town: tuple[Town, MemoryJournal], monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    here, journal = town

    def broken(_entries: Sequence[Entry]) -> None:
        monkeypatch.undo()
        raise RuntimeError("unheard of")

    async def later(entries: Sequence[Entry]) -> None:
        broken(entries)

    monkeypatch.setattr(journal, "append", broken if at_once else later)
    told = (await here.observe("anon:a", signal("page")))["unavailable"]["code"]
    assert told == ("internal" if at_once else "not_durable")
    while "unavailable" in (reply := await here.observe("anon:a", signal("page"))):
        assert reply["unavailable"]["code"] == "recovering"
    assert reply["results"] == ["accepted"]


async def test_a_shard_that_stops_answers_what_is_under_way(town: tuple[Town, MemoryJournal]) -> None:
    here, journal = town
    held = Held(journal)
    first = asyncio.ensure_future(here.observe("anon:a", signal("page")))
    await held.one()
    stopping = asyncio.ensure_future(here.shards.pop(0).stop())
    await asyncio.sleep(0)
    assert not first.done()
    await held.let_through()
    assert (await first)["results"] == ["accepted"]
    await stopping


steps = st.lists(st.sampled_from(["ask", "let", *Fault]), min_size=1, max_size=24)


@given(steps)
@settings(max_examples=80, deadline=None)
def test_what_is_acknowledged_is_in_the_journal_whatever_fails_and_each_place_is_given_once(
    moves: list[str | Fault],
) -> None:
    asyncio.run(_walk(moves))


async def _walk(moves: list[str | Fault]) -> None:
    journal = MemoryJournal()
    town = await Town(memory_stores(journal), n_shards=1, n_partitions=2).start()
    held, asked = Held(journal), []
    n = 0
    for move in moves:
        if move == "ask":
            n += 1
            name = f"anon:{n % 3}"
            sent = scroll(n / 100.0)
            asked.append((name, sent.message, asyncio.ensure_future(town.observe(name, sent))))
        elif held.waiting:
            if isinstance(move, Fault):
                journal.fail_next(move)
            held.waiting.pop(0)[1].set()
        for _ in range(12):
            await asyncio.sleep(0)
    journal.gate = journal.fault = None
    for _, go in held.waiting:
        go.set()
    replies = [(name, message, await reply) for name, message, reply in asked]
    await town.stop()
    kept: dict[str, list[int]] = {}
    places: list[tuple[int, int, int]] = []
    for partition in range(2):
        for position, payload in await journal.read(partition, None, 10_000):
            places.append((partition, *position))
            for record in orjson.loads(payload)[1:]:
                if record[0] == "s":
                    kept.setdefault(record[1], []).extend(row[2] for row in record[4])
    assert len(set(places)) == len(places)
    for name, message, reply in replies:
        told = reply.get("results")
        count = kept.get(name, []).count(message)
        assert count <= 1
        if told == ["accepted"]:
            assert count == 1
