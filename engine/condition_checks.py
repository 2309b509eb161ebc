"""Conditions checked against what exists and what is possible: names, values, thresholds that can be met."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.condition_model import ENTER_OPS, GROUP_KEYS, LEAVE_OPS, SHORT_LABELS, TRAIT
from engine.findings import Findings, Loc, nearest, one_of
from engine.schema import CONDITION_LABELS, CONDITION_NUMBERS

SHARES: Final = frozenset(
    {"recency", "depth", "scroll_share", "scroll_share_max", "scroll_completion_rate", "past_scroll_share",
     "conversion", "churn"}
)  # fmt: skip
"""Numbers that are never outside 0–1; every other is at least 0."""
NUMBER_OPS: Final = frozenset({"above", "below", "between", "equals"})
LABEL_OPS: Final = frozenset({"in", "not_in", "equals"})
LABELS: Final = frozenset({*CONDITION_LABELS, "segment"})
NAMES: Final = CONDITION_NUMBERS | LABELS
ONE_OF: Final = ("stage", "device", "os", "network", "browser", "locale", "country", "weekday", "placement")
"""Labels of which a visitor has one at a time."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a condition may refer to: the campaign's segments, the book's geofences, the highest score there can be."""

    segments: Collection[str]
    geofences: Collection[str]
    score_max: float
    findings: Findings

    def values_of(self, label: str) -> Collection[str] | None:
        """The closed set of a label's values, None where it is open."""
        if label == "segment":
            return self.segments
        return self.geofences if label == "geofence" else CONDITION_LABELS.get(label)

    def range_of(self, number: str) -> tuple[float, float]:
        """The lowest and the highest a number can be."""
        if number.startswith(TRAIT):
            return -math.inf, math.inf
        if number == "score":
            return 0.0, self.score_max
        return 0.0, 1.0 if number in SHARES else 23.0 if number == "local_hour" else math.inf


def check_group(raw: Any, loc: Loc, scope: Scope, *, may_be_empty: bool = False) -> None:
    """Add findings for a group (`all`, `any`, `none`), everything below it, and the short form of a `when`."""
    if not isinstance(raw, Mapping):
        return
    n = 0
    for join in GROUP_KEYS:
        children = raw.get(join)
        if not isinstance(children, list) and not (children is None and join in raw):
            continue
        children = children or []
        if not children:
            scope.findings.add((*loc, join), "empty_condition", "at least one clause", found=children)
        n += 1
        for index, child in enumerate(children):
            check_condition(child, (*loc, join, index), scope)
        if join == "all":
            _check_together(children, (*loc, join), scope)
    _check_labels(raw, loc, scope)
    if not (n or may_be_empty or any(join in raw for join in GROUP_KEYS)):
        scope.findings.add(loc, "empty_condition", "all, any or none with clauses", found="no condition")


def check_condition(raw: Any, loc: Loc, scope: Scope) -> None:
    """Add findings for a clause or a group."""
    if isinstance(raw, Mapping):
        if any(join in raw for join in GROUP_KEYS):
            check_group(raw, loc, scope)
        else:
            _check_clause(raw, loc, scope)


def check_when(raw: Any, loc: Loc, scope: Scope) -> None:
    """Add findings for an offer's `when`."""
    if not isinstance(raw, Mapping):
        return
    for key, value in raw.items():
        if key in LABELS:
            _check_values(key, value, (*loc, key), scope)
        elif key not in GROUP_KEYS and not (isinstance(key, str) and _is_trait(key)):
            options = {*SHORT_LABELS, *GROUP_KEYS}
            near = nearest(key, options | CONDITION_NUMBERS)
            why = f'numbers stand as {{feature: {near}, …}} under "all"' if near in CONDITION_NUMBERS else ""
            expected = one_of(options, 20) + f" or {TRAIT}NAME"
            scope.findings.add((*loc, key), "unknown_key", expected, found=key, near=near, why=why)
    check_group(raw, loc, scope, may_be_empty=True)


def _is_trait(name: str) -> bool:
    return name.startswith(TRAIT) and len(name) > len(TRAIT)


def _check_clause(raw: Mapping[str, Any], loc: Loc, scope: Scope) -> None:
    feature = raw.get("feature")
    if not isinstance(feature, str):
        return
    trait = _is_trait(feature)
    if feature not in NAMES and not trait:
        near = nearest(feature, NAMES)
        scope.findings.add((*loc, "feature"), "unknown_feature", "a feature", found=feature, near=near)
    ops = [op for op in ENTER_OPS if raw.get(op) is not None]
    fitting = ENTER_OPS if trait or feature not in NAMES else LABEL_OPS if feature in LABELS else NUMBER_OPS
    if len(ops) != 1:
        found = " and ".join(ops) or "no comparison"
        scope.findings.add(loc, "one_comparison", "exactly " + one_of(fitting), found=found)
    for op in ops:
        if op not in fitting:
            kind = "label" if feature in LABELS else "number"
            scope.findings.add((*loc, op), "wrong_comparison", f"for the {kind} {feature} {one_of(fitting)}", found=op)
        elif feature in LABELS:
            _check_values(feature, raw[op], (*loc, op), scope)
    if feature not in LABELS:
        _check_thresholds(feature, raw, loc, scope)


def _check_values(label: str, raw: Any, loc: Loc, scope: Scope) -> None:
    options = scope.values_of(label)
    for index, value in enumerate(raw if isinstance(raw, list) else [raw]):
        at = (*loc, index) if isinstance(raw, list) else loc
        if isinstance(value, dict | list) or value is None:
            continue
        if not isinstance(value, str):
            scope.findings.add(at, "wrong_type", "text (put it in quotes)", found=value)
        elif options is not None and value not in options:
            code = f"unknown_{label}" if label in ("segment", "geofence") else "unknown_value"
            expected = f"a {label} of this " + ("campaign" if label == "segment" else "book")
            if code == "unknown_value":
                expected = one_of(options)
            elif not options:
                expected += ", which has none"
            scope.findings.add(at, code, expected, found=value, near=nearest(value, options))


def _check_thresholds(feature: str, raw: Mapping[str, Any], loc: Loc, scope: Scope) -> None:
    numbers = {op: _number(raw.get(op)) for op in ("above", "below", *LEAVE_OPS)}
    for leave, enter in LEAVE_OPS.items():
        x, y = numbers[enter], numbers[leave]
        if y is None:
            continue
        if raw.get(enter) is None:
            scope.findings.add((*loc, leave), "leave_without_enter", f"{enter} beside it", found=leave)
        elif x is not None and (y > x if leave == "leave_below" else y < x):
            side = "at most" if leave == "leave_below" else "at least"
            expected = f"{side} {x:g}, the threshold for entering"
            scope.findings.add((*loc, leave), "leave_beyond_enter", expected, found=y)
    low, high = scope.range_of(feature)
    x, below = numbers["above"], numbers["below"]
    if x is not None and x >= high:
        scope.findings.add((*loc, "above"), "never_met", _less(feature, high), found=x, why="it can never be met")
    if below is not None and below <= low:
        expected = f"more than {low:g}: {feature} is never less"
        scope.findings.add((*loc, "below"), "never_met", expected, found=below, why="it can never be met")
    a, b = _interval(raw, "between")
    if a is not None and b is not None and (a > b or a > high or b < low):
        expected = "[low, high] with low ≤ high" if a > b else f"a part of {low:g} to {high:g}"
        why = "it can never be met"
        scope.findings.add((*loc, "between"), "never_met", expected, found=f"[{a:g}, {b:g}]", why=why)
    same = _number(raw.get("equals"))
    if same is not None and not low <= same <= high:
        expected = f"{low:g} to {high:g}"
        scope.findings.add((*loc, "equals"), "never_met", expected, found=same, why="it can never be met")


def _less(feature: str, high: float) -> str:
    if feature == "score":
        return f"less than {high:g}: with these weights the score is never more"
    share = "; shares are 0–1, not per cent" if feature in SHARES else ""
    return f"less than {high:g}: {feature} is never more{share}"


def _check_together(children: list[Any], loc: Loc, scope: Scope) -> None:
    """Clauses of one `all` on the same number must leave something between them."""
    ranges: dict[str, tuple[float, float]] = {}
    for index, raw in enumerate(children):
        if not isinstance(raw, Mapping) or not isinstance(raw.get("feature"), str):
            continue
        above, below, (a, b) = _number(raw.get("above")), _number(raw.get("below")), _interval(raw, "between")
        low = max((v for v in (above, a) if v is not None), default=-math.inf)
        high = min((v for v in (below, b) if v is not None), default=math.inf)
        before = ranges.get(raw["feature"], (-math.inf, math.inf))
        both = max(low, before[0]), min(high, before[1])
        if both[0] > both[1] or (both[0] == both[1] and (above is not None or below is not None)):
            if raw["feature"] in ranges:
                expected = f"something that can hold together with the other clauses on {raw['feature']}"
                found = f"more than {both[0]:g} and less than {both[1]:g}"
                scope.findings.add((*loc, index), "never_met", expected, found=found)
            continue
        ranges[raw["feature"]] = both


def _check_labels(raw: Mapping[str, Any], loc: Loc, scope: Scope) -> None:
    """Warn of labels that must be two things at once: clauses of one `all`, and the short form beside them."""
    left: dict[str, frozenset[str]] = {}
    short: list[tuple[Loc, Any, Any]] = [((*loc, label), label, raw[label]) for label in ONE_OF if label in raw]
    clauses: list[tuple[Loc, Any, Any]] = []
    for index, clause in enumerate(raw["all"] if isinstance(raw.get("all"), list) else ()):
        if isinstance(clause, Mapping) and clause.get("feature") in ONE_OF:
            values = clause["in"] if clause.get("in") is not None else clause.get("equals")
            clauses.append(((*loc, "all", index), clause["feature"], values))
    for at, label, values in [*short, *clauses]:
        named = frozenset(v for v in (values if isinstance(values, list) else [values]) if isinstance(v, str))
        before = left.get(label)
        if named and before is not None and not named & before:
            both = f"{' or '.join(sorted(before))}, and {' or '.join(sorted(named))}"
            scope.findings.warn(at, "never_met", f"it can never hold: {label} must be {both}, at once")
        elif named:
            left[label] = named if before is None else named & before


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _interval(raw: Mapping[str, Any], op: str) -> tuple[float | None, float | None]:
    value = raw.get(op)
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None, None
    return _number(value[0]), _number(value[1])
