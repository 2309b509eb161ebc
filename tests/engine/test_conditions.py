"""Conditions hold, explain themselves, and never read what is missing as anything."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.condition_model import When
from engine.conditions import Compiled, compile_condition

ABSENT: dict[str, Any] = {}
HIGH = {"feature": "scroll_share", "above": 0.7, "leave_below": 0.6}


def condition(**parts: Any) -> Compiled:
    return compile_condition(When.model_validate(parts))


def clause(feature: str, **parts: Any) -> Compiled:
    return condition(all=[{"feature": feature, **parts}])


@pytest.mark.parametrize(
    ("parts", "inside", "outside"),
    [
        ({"above": 2}, [2.01, 5], [2, 1, -1]),
        ({"below": 2}, [1.99, -5], [2, 3]),
        ({"between": [1, 2]}, [1, 1.5, 2], [0.99, 2.01]),
        ({"equals": 2}, [2, 2.0], [1.99, 3]),
    ],
)
def test_numbers_are_compared(parts: dict[str, Any], inside: list[float], outside: list[float]) -> None:
    test = clause("n_pages", **parts)
    assert [test.holds({"n_pages": v}, False) for v in inside] == [True] * len(inside)
    assert [test.holds({"n_pages": v}, False) for v in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    ("feature", "parts", "facts", "holds"),
    [
        ("os", {"in": ["ios", "android"]}, {"os": "ios"}, True),
        ("os", {"in": ["ios"]}, {"os": "linux"}, False),
        ("os", {"not_in": ["ios"]}, {"os": "linux"}, True),
        ("os", {"not_in": ["ios"]}, {"os": "ios"}, False),
        ("os", {"equals": "ios"}, {"os": "ios"}, True),
        ("country", {"in": ["de"]}, {"country": "DE"}, True),
        ("browser", {"equals": "Safari"}, {"browser": "safari"}, True),
        ("cohort", {"in": ["vip", "staff"]}, {"cohort": {"vip", "beta"}}, True),
        ("cohort", {"in": ["vip"]}, {"cohort": ["beta", "vip"]}, True),
        ("cohort", {"in": ["vip"]}, {"cohort": set()}, False),
        ("cohort", {"not_in": ["vip"]}, {"cohort": set()}, True),
        ("cohort", {"not_in": ["vip"]}, {"cohort": {"vip"}}, False),
        ("geofence", {"in": ["mitte"]}, {"geofence": "mitte"}, True),
        ("geofence", {"in": ["m"]}, {"geofence": "mitte"}, False),
        ("segment", {"in": ["keen"]}, {"segments": {"keen"}}, True),
        ("segment", {"equals": "keen"}, {"segments": {"other"}}, False),
        ("trait.plan", {"in": ["gold"]}, {"trait.plan": "gold"}, True),
        ("trait.age", {"above": 17}, {"trait.age": 18}, True),
        ("trait.age", {"above": 17}, {"trait.age": "old"}, False),
        ("trait.member", {"equals": True}, {"trait.member": True}, True),
        ("trait.member", {"equals": True}, {"trait.member": 1}, False),
        ("trait.member", {"above": 0}, {"trait.member": True}, False),
        ("trait.n", {"equals": 1}, {"trait.n": 1.0}, True),
    ],
)
def test_labels_and_traits_are_compared(
    feature: str, parts: dict[str, Any], facts: dict[str, Any], holds: bool
) -> None:
    assert clause(feature, **parts).holds(facts, False) is holds


EVERY_FORM: list[tuple[str, dict[str, Any]]] = [
    ("score", {"above": 0.1, "leave_below": 0.05}), ("score", {"below": 0.5, "leave_above": 0.6}),
    ("score", {"between": [0, 1]}), ("score", {"equals": 0}), ("os", {"in": ["ios"]}), ("os", {"not_in": ["ios"]}),
    ("os", {"equals": "ios"}), ("cohort", {"not_in": ["vip"]}), ("country", {"not_in": ["DE"]}),
    ("trait.x", {"above": 0}), ("trait.x", {"not_in": ["y"]}), ("trait.x", {"equals": "y"}),
    ("geofence", {"not_in": ["mitte"]}), ("segment", {"not_in": ["keen"]}),
]  # fmt: skip


@pytest.mark.parametrize(("feature", "parts"), EVERY_FORM)
@pytest.mark.parametrize("value", ["absent", None, math.nan])
@pytest.mark.parametrize("member", [False, True])
def test_a_missing_value_satisfies_no_clause(feature: str, parts: dict[str, Any], value: Any, member: bool) -> None:
    fact = {"segment": "segments"}.get(feature, feature)
    facts = ABSENT if value == "absent" else {fact: value}
    test = clause(feature, **parts)
    (result,) = test.explain(facts, member)
    assert not test.holds(facts, member)
    assert result.missing
    assert "missing" in result.text()


def test_a_member_stays_between_the_thresholds_where_nobody_enters() -> None:
    test = condition(all=[HIGH])
    facts = {"scroll_share": 0.65}
    assert not test.holds(facts, False)
    assert test.holds(facts, True)
    assert test.holds({"scroll_share": 0.6}, True)
    assert not test.holds({"scroll_share": 0.59}, True)


def test_under_none_staying_is_still_easier_than_entering() -> None:
    test = condition(none=[HIGH])
    between = {"scroll_share": 0.65}
    assert not test.holds(between, False)
    assert test.holds(between, True)
    assert test.holds({"scroll_share": 0.5}, False)
    assert not test.holds({"scroll_share": 0.8}, True)


def test_groups_join_and_nest() -> None:
    test = condition(
        all=[{"feature": "n_pages", "above": 1}],
        any=[{"feature": "os", "in": ["ios"]}, {"all": [{"feature": "n_clicks", "above": 0}]}],
        none=[{"feature": "churn", "above": 0.9}],
    )
    facts = {"n_pages": 2.0, "os": "ios", "n_clicks": 0.0, "churn": 0.1}
    assert test.holds(facts, False)
    assert not test.holds(facts | {"n_pages": 1.0}, False)
    assert not test.holds(facts | {"os": "linux"}, False)
    assert test.holds(facts | {"os": "linux", "n_clicks": 1.0}, False)
    assert not test.holds(facts | {"churn": 0.95}, False)


def test_the_short_form_of_when_needs_every_label_and_any_of_its_values() -> None:
    test = condition(**{"segment": "keen", "os": ["ios", "android"], "trait.plan": "gold"})
    facts = {"segments": {"keen"}, "os": "android", "trait.plan": "gold"}
    assert test.holds(facts, False)
    for name, value in (("segments", set()), ("os", "linux"), ("trait.plan", "free")):
        assert not test.holds(facts | {name: value}, False)


def test_a_condition_of_many_clauses_needs_every_one() -> None:
    names = ["n_pages", "n_clicks", "score", "churn", "cart_value", "n_sessions"]
    for n in range(1, len(names) + 1):
        test = condition(all=[{"feature": name, "above": 0} for name in names[:n]])
        facts = dict.fromkeys(names[:n], 1.0)
        assert test.holds(facts, False)
        for name in names[:n]:
            assert not test.holds(facts | {name: 0.0}, False)


def test_an_explanation_names_each_clause_with_the_threshold_in_force() -> None:
    test = condition(all=[HIGH, {"feature": "time_on_page_s", "above": 15}], none=[{"feature": "os", "in": ["ios"]}])
    facts = {"scroll_share": 0.65, "os": "ios"}
    outside = test.explain(facts, False)
    assert [(r.path, r.feature, r.op, r.threshold, r.value, r.holds, r.wanted) for r in outside] == [
        ("all[0]", "scroll_share", "above", 0.7, 0.65, False, True),
        ("all[1]", "time_on_page_s", "above", 15.0, None, False, True),
        ("none[0]", "os", "in", ["ios"], "ios", True, False),
    ]
    inside = test.explain(facts, True)
    assert (inside[0].op, inside[0].threshold, inside[0].holds) == ("leave_below", 0.6, True)
    assert inside[0].text() == "scroll_share is 0.65, needs at least 0.6"
    assert outside[2].text() == "os is ios, needs not in ['ios']"


def test_the_first_clause_that_failed_is_named() -> None:
    test = condition(segment="keen", all=[HIGH], none=[{"any": [{"feature": "n_pages", "above": 9}]}])
    facts: dict[str, Any] = {"segments": {"keen"}, "scroll_share": 0.8, "n_pages": 2.0}
    assert test.first_failed(facts, False) is None
    for change, path in (
        ({"segments": set()}, "segment"), ({"scroll_share": 0.1}, "all[0]"), ({"n_pages": 10.0}, "none[0].any[0]"),
    ):  # fmt: skip
        failed = test.first_failed(facts | change, False)
        assert failed is not None
        assert failed.path == path
        assert not failed.ok


def test_what_a_condition_reads_is_known() -> None:
    assert condition(os="ios", any=[HIGH, {"none": [HIGH]}]).features() == {"os", "scroll_share"}


values = st.one_of(st.none(), st.just(math.nan), st.floats(-1, 2))
leaves = st.builds(
    lambda name, low, high: {"feature": name, "above": max(low, high), "leave_below": min(low, high)},
    st.sampled_from(["recency", "depth", "score"]), st.floats(0, 1), st.floats(0, 1),
) | st.builds(
    lambda name, low, high: {"feature": name, "below": min(low, high), "leave_above": max(low, high)},
    st.sampled_from(["recency", "depth", "score"]), st.floats(0, 1), st.floats(0, 1),
)  # fmt: skip
trees = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda join, children: {join: children},
        st.sampled_from(["all", "any", "none"]), st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)  # fmt: skip
facts_of = st.fixed_dictionaries({}, optional={"recency": values, "depth": values, "score": values})


@given(trees, facts_of)
def test_whoever_may_enter_may_also_stay(tree: dict[str, Any], facts: dict[str, Any]) -> None:
    test = condition(all=[tree])
    assert not test.holds(facts, False) or test.holds(facts, True)


@given(trees, facts_of, st.booleans())
def test_a_clause_is_named_exactly_when_the_condition_does_not_hold(tree: Any, facts: Any, member: bool) -> None:
    test = condition(all=[tree])
    failed = test.first_failed(facts, member)
    assert (failed is None) is test.holds(facts, member)
    assert failed is None or (not failed.ok and failed in test.explain(facts, member))
