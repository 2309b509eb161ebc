"""The calendar queue: everyone is given once, when due and not a millisecond sooner."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from training.as_served import NO_VALUE, Goal
from training.calendar_queue import CalendarQueue
from training.outcomes import Case

GOAL = Goal("order_completed", 300, NO_VALUE)


def case(due_ms: int, span_ms: int = 300) -> Case:
    return Case(f"d{due_ms}", "anon:a", due_ms - span_ms, due_ms, GOAL, 0.0, None)


@given(st.lists(st.one_of(st.integers(0, 5000), st.tuples(st.integers(0, 5000))), max_size=40))
@settings(max_examples=100, deadline=None)
def test_everyone_is_given_once_and_as_soon_as_it_is_due(script: Any) -> None:
    queue, waiting = CalendarQueue(), list[Case]()
    for step in script:
        if isinstance(step, int):
            waiting.append(case(step))
            queue.add(waiting[-1])
        else:
            due = [one for one in waiting if one.due_ms <= step[0]]
            waiting = [one for one in waiting if one.due_ms > step[0]]
            assert {id(one) for one in queue.take(step[0])} == {id(one) for one in due}
    assert {id(one) for one in queue.take(10_000)} == {id(one) for one in waiting}
    assert queue.take(10_000) == []


def test_it_knows_how_long_somebody_is_kept_waiting() -> None:
    queue = CalendarQueue()
    for one in (case(1000, 300), case(9000, 700), case(9001, 500)):
        queue.add(one)
    assert queue.longest_ms() == 700
    queue.take(9500)
    assert queue.longest_ms() == 0
