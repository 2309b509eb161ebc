"""The single tests conditions are made of: a number against a threshold, a label against a set of values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from engine.condition_model import TRAIT, Clause, Scalar

Facts = Mapping[str, Any]
"""Numbers by feature, labels by name, `segments` and `cohort` as sets of names, traits as `trait.x`."""
Test = Callable[[Facts], bool]

SETS: Final = {"segment": "segments", "cohort": "cohort", "geofence": "geofence"}
"""Labels a visitor may have several of, and the fact that holds them (a set, a list, or one name)."""
FOLDED: Final = frozenset({"browser", "locale", "country"})
"""Open labels compared without regard to case."""


def number_tests(clause: Clause) -> tuple[Test, Test]:
    """The tests for entering and for staying of a clause on a number; they are the same without a leave threshold."""
    name = clause.feature
    if clause.above is not None:
        enter = _above(name, clause.above)
        return enter, enter if clause.leave_below is None else _at_least(name, clause.leave_below)
    if clause.below is not None:
        enter = _below(name, clause.below)
        return enter, enter if clause.leave_above is None else _at_most(name, clause.leave_above)
    if clause.between is not None:
        enter = _between(name, *clause.between)
        return enter, enter
    if isinstance(clause.equals, int | float):
        enter = _between(name, clause.equals, clause.equals)
        return enter, enter
    raise ValueError(f"clause on {name} has no test")


# NaN compares false with everything, so only None needs a look.
def _above(name: str, x: float) -> Test:
    return lambda facts: (v := facts.get(name)) is not None and v > x


def _at_least(name: str, x: float) -> Test:
    return lambda facts: (v := facts.get(name)) is not None and v >= x


def _below(name: str, x: float) -> Test:
    return lambda facts: (v := facts.get(name)) is not None and v < x


def _at_most(name: str, x: float) -> Test:
    return lambda facts: (v := facts.get(name)) is not None and v <= x


def _between(name: str, low: float, high: float) -> Test:
    return lambda facts: (v := facts.get(name)) is not None and low <= v <= high


def if_number(name: str, test: Test) -> Test:
    """The test, false where the fact is no number."""

    # A trait is whatever the shop sent; text is not above anything.
    def holds(facts: Facts) -> bool:
        value = facts.get(name)
        return isinstance(value, int | float) and not isinstance(value, bool) and test(facts)

    return holds


def label_test(name: str, fact: str, values: Sequence[Scalar]) -> Test:
    """Whether the label (one of its labels, where a visitor may have several) is among the values."""
    wanted: frozenset[Any]
    if name in SETS:
        wanted = frozenset(values)

        def overlaps(facts: Facts) -> bool:
            held = facts.get(fact)
            if held is None or isinstance(held, str):
                return held in wanted
            return not wanted.isdisjoint(held)

        return overlaps
    if name in FOLDED:
        wanted = frozenset(str(v).casefold() for v in values)
        return lambda facts: isinstance(v := facts.get(fact), str) and v.casefold() in wanted
    if name.startswith(TRAIT):
        # In Python 1 == True, in a shop's traits it is not.
        wanted = frozenset((isinstance(v, bool), v) for v in values)

        def suits(facts: Facts) -> bool:
            held = facts.get(fact)
            return isinstance(held, str | int | float) and (isinstance(held, bool), held) in wanted

        return suits
    wanted = frozenset(values)
    return lambda facts: facts.get(fact) in wanted


def known_and_not(fact: str, test: Test) -> Test:
    """The opposite of a test, and false where nothing is known."""
    return lambda facts: not is_missing(facts.get(fact)) and not test(facts)


def is_missing(value: Any) -> bool:
    """None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))
