"""Replay: everything arrives once and in each visitor's order, whatever the other side does meanwhile."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson
import pytest

from engine.errors import Unavailable
from serving.distinct import Distinct
from serving.mapped import Mapped
from serving.replay import Pace, Replay, ReplayStopped, Summary
from serving.rows import Malformed

Answer = Callable[[list[dict[str, Any]]], httpx.Response]


class Receiver:
    """A `/v1/batch` that remembers; `faults` are answers given before it works."""

    def __init__(self, *faults: httpx.Response | Exception) -> None:
        self.faults = list(faults)
        self.events: list[dict[str, Any]] = []
        self.seen: set[str] = set()
        self.urls: list[httpx.URL] = []
        self.largest = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.urls.append(request.url)
        self.largest = max(self.largest, len(request.content))
        batch = orjson.loads(request.content)["batch"]
        if len(request.content) > 500 * 1024:
            return httpx.Response(413, json={"code": "too_large", "message": "too large"})
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            # It took effect and the answer was lost: the worst case for a sender.
            self.take(batch)
            raise fault
        if fault is not None:
            return fault
        accepted, rejected = self.take(batch)
        counts = {"accepted": accepted, "duplicates": len(batch) - accepted - len(rejected), "rejected": rejected}
        return httpx.Response(400 if len(rejected) == len(batch) else 200, json={"success": True, **counts})

    def take(self, batch: list[dict[str, Any]]) -> tuple[int, list[dict[str, Any]]]:
        accepted, rejected = 0, []
        for index, event in enumerate(batch):
            if event["timestamp"] < 0:
                rejected.append({"index": index, "code": "bad_timestamp", "message": "too old"})
            elif event["messageId"] not in self.seen:
                self.seen.add(event["messageId"])
                self.events.append(event)
                accepted += 1
        return accepted, rejected


class Clock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_760_000_000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def events(n: int, *, visitors: int = 7, gap_ms: int = 1000, size: int = 0) -> Iterator[Mapped]:
    for number in range(n):
        who = f"v{number % visitors}"
        event = {"anonymousId": who, "messageId": f"m{number}", "timestamp": number * gap_ms, "pad": "x" * size}
        yield Mapped(number + 1, who, number * gap_ms, event)


async def run(receiver: Receiver, found: Any, clock: Clock | None = None, **options: Any) -> Summary:
    clock = clock or Clock()
    transport = httpx.MockTransport(receiver)
    async with httpx.AsyncClient(transport=transport, base_url="http://kairos") as client:
        return await Replay(client, sleep=clock.sleep, clock=lambda: clock.now, **options).run(found)


async def test_every_event_arrives_once_and_each_visitors_events_in_their_order() -> None:
    receiver = Receiver()
    summary = await run(receiver, events(5000))
    assert (summary.n_events, summary.n_accepted, summary.n_duplicates, summary.n_rejected) == (5000, 5000, 0, 0)
    assert summary.profiles.count == 7
    order: dict[str, list[int]] = defaultdict(list)
    for event in receiver.events:
        order[event["anonymousId"]].append(event["timestamp"])
    assert all(times == sorted(times) for times in order.values())


async def test_a_second_run_finds_only_duplicates() -> None:
    receiver = Receiver()
    await run(receiver, events(100))
    summary = await run(receiver, events(100))
    assert (summary.n_accepted, summary.n_duplicates) == (0, 100)


async def test_retry_after_is_honoured_and_nothing_is_lost_or_counted_twice() -> None:
    clock = Clock()
    busy = httpx.Response(503, headers={"Retry-After": "3"}, json={"code": "unavailable", "message": "wait"})
    receiver = Receiver(busy, busy)
    summary = await run(receiver, events(10, visitors=1), clock)
    assert clock.slept == [3.0, 3.0]
    assert (summary.n_accepted, summary.n_retries, len(receiver.events)) == (10, 2, 10)


async def test_an_answer_lost_on_the_way_makes_duplicates_and_no_second_effect() -> None:
    receiver = Receiver(httpx.ReadError("lost"))
    summary = await run(receiver, events(10, visitors=1))
    assert (summary.n_accepted, summary.n_duplicates, len(receiver.events)) == (0, 10, 10)


@pytest.mark.parametrize(
    ("fault", "patience_s"),
    [(httpx.Response(503, headers={"Retry-After": "2"}), 60), (httpx.ConnectError("refused"), 5)],
    ids=["a busy server", "nobody there"],
)
async def test_a_server_that_stays_away_ends_the_replay_with_one_clear_error(fault: Any, patience_s: float) -> None:
    clock = Clock()
    with pytest.raises(Unavailable, match="no answer"):
        await run(Receiver(*[fault] * 1000), events(10, visitors=1), clock)
    assert patience_s <= sum(clock.slept) < patience_s + 5


async def test_a_refused_key_ends_the_replay_at_once() -> None:
    refused = httpx.Response(401, json={"code": "bad_key", "message": "a key that nobody issued"})
    clock = Clock()
    with pytest.raises(ReplayStopped, match="a key that nobody issued"):
        await run(Receiver(*[refused] * 4), events(100_000), clock)
    assert clock.slept == []


async def test_rejected_events_are_counted_by_code() -> None:
    old = [Mapped(1, "v", -5, {"anonymousId": "v", "messageId": "old", "timestamp": -5})]
    summary = await run(Receiver(), [*old, *events(3)])
    assert (summary.n_accepted, dict(summary.rejected)) == (3, {"bad_timestamp": 1})


async def test_a_batch_of_rejected_events_only_is_an_answer_too() -> None:
    old = [Mapped(1, "v", -5, {"anonymousId": "v", "messageId": "old", "timestamp": -5})]
    summary = await run(Receiver(), old)
    assert dict(summary.rejected) == {"bad_timestamp": 1}


async def test_batches_stay_below_the_limit_and_an_event_that_is_too_large_alone_is_rejected_alone() -> None:
    receiver = Receiver()
    huge = Mapped(1, "v0", 0, {"anonymousId": "v0", "messageId": "huge", "timestamp": 0, "pad": "x" * 600_000})
    summary = await run(receiver, [*events(60, size=30_000), huge, *events(3, visitors=1)])
    assert dict(summary.rejected) == {"too_large": 1}
    assert summary.n_accepted == 60


async def test_malformed_lines_are_reported_and_the_rest_is_sent() -> None:
    reported: list[Malformed] = []
    found = [*events(2), Malformed(3, "torn"), *[Mapped(4, "w", 9, {"messageId": "z", "timestamp": 9})]]
    summary = await run(Receiver(), found, on_malformed=reported.append)
    assert reported == [Malformed(3, "torn")]
    assert (summary.n_malformed, summary.n_accepted) == (1, 3)


async def test_with_a_speed_the_gaps_are_divided_and_events_are_stamped_when_they_are_sent() -> None:
    clock = Clock()
    receiver = Receiver()
    await run(receiver, events(5, visitors=1, gap_ms=60_000), clock, pace=Pace(speed=60))
    assert sum(clock.slept) == pytest.approx(4.0)
    stamps = sorted(event["timestamp"] for event in receiver.events)
    assert [b - a for a, b in itertools.pairwise(stamps)] == [1000] * 4
    assert stamps[0] == 1_760_000_000_000


async def test_without_a_speed_events_keep_their_own_times() -> None:
    clock, receiver = Clock(), Receiver()
    await run(receiver, events(5), clock)
    assert clock.slept == []
    assert [event["timestamp"] for event in receiver.events if event["messageId"] == "m4"] == [4000]


@pytest.mark.parametrize(("backfill", "query"), [(True, b"backfill=true"), (False, b"")])
async def test_backfill_is_marked_on_every_request(backfill: bool, query: bytes) -> None:
    receiver = Receiver()
    await run(receiver, events(3), backfill=backfill)
    assert {url.query for url in receiver.urls} == {query}


def test_distinct_is_exact_while_small_and_close_when_large() -> None:
    small, large = Distinct(kept=1000), Distinct(kept=1000)
    for number in range(1000):
        small.add(str(number % 500))
    for number in range(50_000):
        large.add(str(number))
        large.add(str(number // 2))
    assert (small.count, small.exact) == (500, True)
    assert not large.exact
    assert abs(large.count - 50_000) < 5_000
