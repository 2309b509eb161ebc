"""The demo against real shards in this process: the story explains itself, what is shown was measured."""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

import serving
from engine.errors import Unavailable
from engine.ids import anon_track
from engine.simulation import World
from serving.app import build_app
from serving.demo import DemoOptions, run_demo
from serving.demo_probe import Probe
from serving.demo_story import StoryFailed, Teller
from serving.demo_tally import SIMULATED, Carts, Latency, Tally
from serving.demo_traffic import Shop, Traffic, world_for
from serving.demo_view import plain
from serving.keys import KeyRing
from serving.settings import Settings
from serving.settings_branches import Deadlines
from serving.yaml_places import read_yaml
from tests.actors.town import BOOK, Town

SAMPLE = Path(serving.__file__).parent / "samples" / "cart_recovery.yaml"


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = Town()
    town.clock = now_ms  # type: ignore[assignment]
    await town.start(read_yaml(SAMPLE.read_bytes()).data)
    yield town
    await town.stop()


def transport(town: Town) -> httpx.ASGITransport:
    # A slow machine must not turn a test of the demo into one of the deadline.
    settings = Settings(deadlines=Deadlines(decide_ms=5000))
    app = build_app(
        town,
        None,
        settings,
        KeyRing(),
        clock=now_ms,
        message_key=b"k" * 32,
        dice=random.Random(1),  # type: ignore[arg-type]
    )
    return httpx.ASGITransport(app)


@pytest.fixture
async def client(town: Town) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=transport(town), base_url="http://kairos") as client:
        yield client


async def test_the_story_shows_what_scrolling_changed_and_why(client: httpx.AsyncClient) -> None:
    lines: list[str] = []
    last = await Teller(client, "t", lines.append).tell()
    text = "\n".join(lines)
    before, after, cart = text.split("\n\n")[1:]
    assert lines[0].startswith("first decision: d_")
    assert "segments: none yet" in before
    assert "high_intent: scroll_share is" in before
    assert "segments entered: high_intent" in after
    assert "time_on_page_avg_s is 38, needs at least 5.0" in after
    assert "near_checkout" in cart
    assert "probability of this choice" in cart
    assert last["score"]["stage"] == "checkout"
    assert "t-story" not in text


async def test_a_book_without_the_placements_of_the_demo_is_one_clear_error(town: Town) -> None:
    await town.publish(BOOK)
    for shard in town.shards.values():
        await shard.worlds.refresh()
    async with httpx.AsyncClient(transport=transport(town), base_url="http://kairos") as client:
        with pytest.raises(StoryFailed, match="404"):
            await Teller(client, "t", lambda _: None).tell()


async def test_every_class_of_signals_is_measured_until_it_is_seen_in_a_decision(client: httpx.AsyncClient) -> None:
    tally = Tally()
    probe = Probe(client, tally, "product_page", "t")
    for _ in range(3):
        await probe.round()
    assert {name: (len(seen), seen.n_missed) for name, seen in tally.signals.items()} == {
        "behavioural": (3, 0), "contextual": (3, 0), "predictive": (3, 0),
    }  # fmt: skip
    assert not tally.errors


async def test_a_decision_without_the_profile_is_not_taken_for_one_that_has_seen_the_signal() -> None:
    answers = iter([None, None, 0.73])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/batch":
            return httpx.Response(200, json={"accepted": 1, "duplicates": 0, "rejected": []})
        depth = next(answers, 0.73)
        told = {"score": {"depth": depth}, "risk": {"conversion": depth and depth / (1 + len(calls))}}
        calls.append(depth)
        return httpx.Response(200, json={**told, "treatment": {"layout": "mobile_first", "media": "low_bandwidth"}})

    calls: list[float | None] = []
    tally = Tally()
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://kairos") as client:
        await Probe(client, tally, "product_page", "t").round()
    assert calls[:3] == [None, None, 0.73]
    assert all(len(seen) == 1 for seen in tally.signals.values())


class WatchedShop(Shop):
    """Remembers what was decided for whom, in order."""

    def __init__(self, client: httpx.AsyncClient, tally: Tally) -> None:
        super().__init__(client, tally)
        self.answers: list[tuple[int, dict[str, Any]]] = []

    async def decide(self, visitor: int, request: dict[str, Any]) -> dict[str, Any] | None:
        answer = await super().decide(visitor, request)
        assert answer is not None
        self.answers.append((visitor, answer))
        return answer


async def test_simulated_shoppers_live_their_past_and_their_present_over_http(
    town: Town, client: httpx.AsyncClient
) -> None:
    tally = Tally()
    shop = WatchedShop(client, tally)
    world = world_for(3, rate=400, speed=4000, name="t")
    await Traffic(shop, tally, world, speed=4000).run(40)
    assert not tally.errors
    assert tally.decisions.total == len(shop.answers) > 40
    assert tally.treated.n + tally.held_out.n > 5
    lives = world_for(3, rate=400, speed=4000, name="t").lives(0)
    returned = [life for life, _ in zip(lives, range(40), strict=False) if life.n_visits > 1]
    anonymous = [life for life in returned if life.shopper.user_id is None and len(life.shopper.devices) == 1]
    assert anonymous
    for life in anonymous:
        profile = await town.profile(anon_track(life.shopper.devices[0].anonymous_id))
        assert profile["features"]["n_sessions"] == life.n_visits


async def test_a_hurried_visit_still_has_the_recency_and_the_averages_of_an_unhurried_one(
    client: httpx.AsyncClient,
) -> None:
    shop = WatchedShop(client, Tally())
    world = World(5, per_day=10**9, name="t")
    await Traffic(shop, Tally(), world, speed=4000).run(30)
    first: dict[int, dict[str, Any]] = {}
    for visitor, answer in shop.answers:
        first.setdefault(visitor, answer)
    recencies = [a["score"]["recency"] for a in first.values() if a["score"] is not None]
    # The last pause before a first decision is 0.3 to 3 s long.
    assert len(recencies) > 20
    assert all(0.93 < recency < 0.998 for recency in recencies)


async def test_the_demo_ends_by_itself_and_says_that_its_lift_is_simulated(town: Town) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=False, width=200)
    options = DemoOptions("http://kairos", rate=20, speed=2000, seconds=1.0, run="t")
    tally = await run_demo(options, console, transport(town))
    text = out.getvalue()
    assert SIMULATED in text
    assert "curl -s http://kairos/v1/decide" in text
    assert "budget 300 ms" in text
    assert tally.events.total > 0
    assert not tally.errors
    for secret in ("t-story", "t-probe", "userId", "anon:", "user:"):
        assert secret not in text


async def test_a_url_where_nobody_answers_is_one_clear_error() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    options = DemoOptions("http://nobody", seconds=1)
    with pytest.raises(Unavailable, match="http://nobody: nobody answers"):
        await run_demo(options, Console(file=io.StringIO()), httpx.MockTransport(refuse))


async def test_faults_of_the_system_are_counted_and_do_not_end_the_demo() -> None:
    tally = Tally()
    busy = httpx.MockTransport(lambda _: httpx.Response(503, json={"code": "not_durable", "message": "wait"}))
    async with httpx.AsyncClient(transport=busy, base_url="http://kairos") as client:
        await Traffic(Shop(client, tally), tally, world_for(3, 400, 4000, "t"), speed=4000).run(3)
    assert tally.errors["HTTP 503 not_durable"] > 3
    assert any(line.startswith("errors") for line in plain(tally))


async def test_traffic_leaves_nothing_running_when_it_is_cancelled(client: httpx.AsyncClient) -> None:
    tally = Tally()
    running = asyncio.ensure_future(Traffic(Shop(client, tally), tally, world_for(3, 50, 1, "t")).run())
    while tally.events.total == 0:  # noqa: ASYNC110 - a tally has no event to wait for
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not [task for task in asyncio.all_tasks() if "Visitor.live" in repr(task)]


def test_percentiles_are_nearest_rank_and_what_never_came_is_counted() -> None:
    latency = Latency()
    for ms in range(100):
        latency.add(float(ms))
    latency.add(None)
    assert (latency.at(0.5), latency.at(0.99), latency.n_missed) == (50.0, 99.0, 1)
    assert Latency().at(0.5) is None


def test_rates_are_of_the_last_five_seconds() -> None:
    clock = iter([0.0, 1.0, 8.0, 9.0]).__next__
    tally = Tally(clock=lambda: 0.0)
    rate = type(tally.events)(clock)
    rate.add(100)
    rate.add(50)
    assert rate.now() == 10.0
    assert rate.total == 150


def test_shares_of_paid_carts_name_their_number() -> None:
    carts = Carts()
    assert carts.text == "none yet"
    for paid in (True, False):
        carts.add(paid)
    assert carts.text == "50.0% of 2"
