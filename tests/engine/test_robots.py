"""Bots by behaviour: what no person does, and what people do that looks like it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ids import DecisionId
from engine.inputs import Request, read_inputs
from engine.profile import view
from engine.record import fold, signals_record
from engine.signals import Signal
from engine.track import Track
from tests.engine.builders import HOUR, T0, histories, signal


def visit(n_pages: int, gap_ms: int, *more: Signal) -> list[Signal]:
    pages = [signal("page", T0 + i * gap_ms, message=i + 1, url=f"/{i}") for i in range(n_pages)]
    return [*pages, *more]


def track_of(signals: list[Signal]) -> Track:
    track = Track.fresh("anon:a")
    for one in signals:
        track.observe(one, T0 + HOUR)
    return track


@pytest.mark.parametrize(
    ("signals", "bot"),
    [
        (visit(20, 500), True), (visit(19, 500), False), (visit(20, 5_000), False),
        (visit(60, 900, signal("scroll", T0, share=0.5)), True),
        (visit(60, 1_100, signal("scroll", T0, px=9.0)), False),
        (visit(200, 20_000), True), (visit(199, 20_000), False),
        (visit(200, 20_000, signal("hover", T0, ms=3.0)), False),
        (visit(30, 500, signal("order_completed", T0, order_id="o", value=1.0)), False),
        (visit(30, 500, signal("heartbeat", T0, time_s=60.0)), True), (visit(500, 0)[:199], False),
    ],
    ids=["fast and blind", "too few to say", "slow", "faster than anybody reads", "a quick reader", "patient and blind",
         "not quite", "a pointer", "a buyer", "a page that reports itself", "all at the moment of receipt"],
)  # fmt: skip
def test_a_visit_is_a_robots_or_a_persons(signals: list[Signal], bot: bool) -> None:
    assert track_of(signals).is_bot is bot


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 80), st.integers(100, 4_000), st.randoms(use_true_random=False))
def test_the_verdict_is_the_same_for_any_order_of_arrival(
    signals: list[Signal], n_pages: int, gap_ms: int, dice: Random
) -> None:
    robot = [signal("page", T0 + 30 * 60_000 + i * gap_ms, message=10_000 + i) for i in range(n_pages)]
    mixed = [*signals, *robot]
    dice.shuffle(mixed)
    assert track_of(mixed).is_bot is track_of([*signals, *robot]).is_bot


def test_a_late_scroll_acquits_as_long_as_the_visit_is_open() -> None:
    assert track_of(visit(20, 500)).is_bot
    assert not track_of(visit(20, 500, signal("scroll", T0 + 700, px=300.0))).is_bot


def test_once_a_robotic_visit_is_folded_away_the_mark_stays_also_in_a_snapshot() -> None:
    track = track_of([*visit(20, 500), signal("click", T0 + 50 * HOUR)])
    assert len(track.sessions) == 1
    assert track.is_bot
    assert Track.restore(track.snapshot()).is_bot


def test_snapshots_from_before_hovers_were_counted_are_read() -> None:
    track = track_of([signal("hover", T0, ms=5.0)])
    old = track.snapshot()
    old[13] = [row[:14] for row in old[13]]
    assert Track.restore(old).sessions[0].n_hovers == 0
    assert Track.restore(track.snapshot()).sessions[0].n_hovers == 1


def test_a_rebuild_from_records_comes_to_the_same_verdict() -> None:
    records = [signals_record("anon:a", T0 + i, 0, visit(40, 400)[i * 10 : i * 10 + 10]) for i in range(4)]
    once: Track | None = None
    for i, record in enumerate(records):
        once = fold(once, record, DecisionId(0, 1, i, 0))
    assert once is not None
    half = Track.restore(once.snapshot()) if once else None
    assert half is not None
    assert (once.is_bot, half.is_bot, once.snapshot()) == (True, True, half.snapshot())


def test_a_profile_with_a_robots_track_is_a_robots() -> None:
    robot, person = track_of(visit(20, 500)), Track.fresh("user:u")
    person.observe(signal("scroll", T0 + 100, px=500.0), T0)
    joined = view("user:u", [person, robot])
    assert joined.is_bot
    assert read_inputs(joined, Request("p"), {}, {}, T0).bot
    assert not read_inputs(person, Request("p"), {}, {}, T0).bot
