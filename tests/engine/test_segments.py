"""Segments are entered and left with hysteresis and a minimum hold."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.book import compile_book, load_book
from engine.segments import CompiledSegment, Ranked, Transition, evaluate_segments, members, order_segments
from tests.engine.books import book

T0 = 1_790_000_000_000


def segments(**parts: Any) -> tuple[CompiledSegment, ...]:
    return compile_book(load_book(book(segments=parts, offers={})), "b1").campaigns["c"].segments


def keen(hold: str = "30s", leave: float = 0.6) -> tuple[CompiledSegment, ...]:
    return segments(keen={"all": [{"feature": "scroll_share", "above": 0.7, "leave_below": leave}], "hold": hold})


def test_a_visitor_enters_when_the_condition_holds() -> None:
    after, changes = evaluate_segments(keen(), {"scroll_share": 0.8}, {}, T0)
    assert after == {"c.keen": [T0]}
    assert changes == [Transition("keen", "enter", T0, T0)]
    assert members(keen(), after) == {"keen"}


def test_between_the_thresholds_nothing_changes() -> None:
    facts = {"scroll_share": 0.65}
    assert evaluate_segments(keen(), facts, {}, T0) == ({}, [])
    inside = {"c.keen": [T0]}
    assert evaluate_segments(keen(), facts, inside, T0 + 3_600_000) == (inside, [])


def test_a_visitor_leaves_once_the_hold_is_over_and_not_before() -> None:
    low, inside = {"scroll_share": 0.1}, {"c.keen": [T0]}
    assert evaluate_segments(keen(), low, inside, T0 + 29_999) == (inside, [])
    after, changes = evaluate_segments(keen(), low, inside, T0 + 30_000)
    assert after == {}
    assert changes == [Transition("keen", "leave", T0 + 30_000, T0)]


def test_a_dip_during_the_hold_is_not_remembered() -> None:
    inside = {"c.keen": [T0]}
    evaluate_segments(keen(), {"scroll_share": 0.1}, inside, T0 + 10_000)
    assert evaluate_segments(keen(), {"scroll_share": 0.8}, inside, T0 + 30_000) == (inside, [])


def test_a_member_of_whom_nothing_is_known_any_more_leaves_after_the_hold() -> None:
    assert evaluate_segments(keen(), {}, {"c.keen": [T0]}, T0 + 60_000)[0] == {}


def test_a_clock_that_went_backwards_keeps_members_in() -> None:
    inside = {"c.keen": [T0]}
    assert evaluate_segments(keen("0s"), {"scroll_share": 0.0}, inside, T0 - 1) == (inside, [])


def test_other_campaigns_memberships_are_carried_over_and_the_arguments_stay_as_they_are() -> None:
    before = {"other.keen": [T0 - 5], "c.keen": [T0 - 60_000]}
    after, _ = evaluate_segments(keen(), {"scroll_share": 0.0}, before, T0)
    assert after == {"other.keen": [T0 - 5]}
    assert before == {"other.keen": [T0 - 5], "c.keen": [T0 - 60_000]}


def test_memberships_are_plain_json() -> None:
    after, _ = evaluate_segments(keen(), {"scroll_share": 0.8}, {}, T0)
    assert json.loads(json.dumps(after)) == after


def test_a_segment_may_name_another_and_sees_it_as_it_is_now() -> None:
    both = segments(
        late={"all": [{"feature": "segment", "in": ["keen"]}, {"feature": "n_pages", "above": 3}]},
        keen={"all": [{"feature": "scroll_share", "above": 0.7}]},
    )
    facts = {"scroll_share": 0.8, "n_pages": 5.0}
    after, changes = evaluate_segments(both, facts, {}, T0)
    assert set(after) == {"c.keen", "c.late"}
    assert [change.segment for change in changes] == ["keen", "late"]
    after, changes = evaluate_segments(both, facts | {"scroll_share": 0.1}, after, T0 + 1)
    assert after == {}
    assert [change.kind for change in changes] == ["leave", "leave"]
    assert "segments" not in facts


def test_clauses_are_explained_by_the_thresholds_in_force() -> None:
    (segment,) = keen()
    facts = {"scroll_share": 0.65}
    assert [r.ok for r in segment.explain(facts, {})] == [False]
    assert [r.ok for r in segment.explain(facts, {"c.keen": [T0]})] == [True]


def test_segments_rank_by_their_own_priority_then_by_score() -> None:
    entries = [Ranked("b", 0, 0.4), Ranked("a", 0, 0.4), Ranked("cold", 1, 0.1), Ranked("hot", 0, 0.9)]
    assert order_segments(entries) == ["cold", "hot", "a", "b"]


steps = st.lists(st.tuples(st.integers(1, 40_000), st.none() | st.floats(0, 1)), max_size=60)


@given(steps, st.sampled_from([0, 1, 30, 300]))
def test_nobody_leaves_inside_the_hold_and_everybody_inside_has_entered(
    course: list[tuple[int, float | None]], hold_s: int
) -> None:
    now = T0
    inside: dict[str, list[int]] = {}
    ready = keen(f"{hold_s}s")
    for gap_ms, share in course:
        now += gap_ms
        before = inside
        inside, changes = evaluate_segments(ready, {"scroll_share": share}, inside, now)
        for change in changes:
            if change.kind == "leave":
                assert now - before["c.keen"][0] >= hold_s * 1000
                assert change.since_ms == before["c.keen"][0]
                assert share is None or share < 0.6
            else:
                assert share is not None
                assert share > 0.7
                assert "c.keen" not in before
        assert ("c.keen" in inside) == (("c.keen" in before) != bool(changes))


@given(steps)
def test_hysteresis_never_changes_more_often_than_a_raw_threshold(course: list[tuple[int, float | None]]) -> None:
    raw, calm = keen("0s", leave=0.7), keen("0s")
    changed, now = [0, 0], T0
    state: list[dict[str, list[int]]] = [{}, {}]
    for gap_ms, share in course:
        now += gap_ms
        for i, ready in enumerate((raw, calm)):
            state[i], changes = evaluate_segments(ready, {"scroll_share": share}, state[i], now)
            changed[i] += len(changes)
    assert changed[1] <= changed[0]


def test_noise_around_the_threshold_flaps_less_than_a_fifth_as_often() -> None:
    noise = random.Random(7)
    raw, calm = segments(keen={"all": [{"feature": "scroll_share", "above": 0.7}]}), keen()
    changed = [0, 0]
    for _ in range(200):
        state: list[dict[str, list[int]]] = [{}, {}]
        for step in range(60):
            # Rises to the threshold over a minute, then stays near it; a reading each two seconds.
            share = min(0.72, 0.72 * step / 30) + noise.gauss(0, 0.05)
            for i, ready in enumerate((raw, calm)):
                state[i], changes = evaluate_segments(ready, {"scroll_share": share}, state[i], T0 + 2_000 * step)
                changed[i] += len(changes)
    assert changed[1] * 5 < changed[0], changed
