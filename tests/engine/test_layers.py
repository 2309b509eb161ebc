"""Layers: no visitor is in two experiments of one, however many campaigns they stand in."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from engine.book import BookInvalid, compile_book, load_book
from engine.compiled import CompiledBook
from engine.decide import decide
from engine.dice import SeededDice
from engine.exposure import exposed
from engine.inputs import Inputs, Request, read_inputs
from engine.prior import PriorModel
from engine.signals import Signal
from engine.sticky import variant_for
from engine.track import Track
from engine.world import World
from tests.engine.builders import T0

OFFER = {"content": "x", "value": 10}
SEGMENT = {"all": [{"feature": "scroll_share", "above": 0.7}]}
CHANGES = {"segments.deep.all[0].above": 0.5}
N = 400


def campaign(place: str, **experiment: Any) -> dict[str, Any]:
    return {
        "placements": [place],
        "segments": {"deep": SEGMENT},
        "offers": {"one": {**OFFER, "when": {"segment": "deep"}}, "two": OFFER},
        "policy": {"kind": "greedy"},
        "experiments": {"e": {"variants": {"control": {}, "changed": CHANGES}, **experiment}},
    }  # fmt: skip


def book(first: dict[str, Any], second: dict[str, Any]) -> CompiledBook:
    return compile_book(load_book({"campaigns": {"a": campaign("p", **first), "b": campaign("q", **second)}}), "b1")


def inputs(root: str, share: float = 0.0, place: str = "p", **more: Any) -> Inputs:
    track = Track.fresh(root)
    if share:
        track.observe(Signal("scroll", T0, 1, {"share": share}), T0)
    found = read_inputs(track, Request(place), {}, {}, T0)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def in_both(compiled: CompiledBook) -> tuple[int, int, int]:
    a, b = compiled.campaigns["a"], compiled.campaigns["b"]
    found = [(variant_for(a, inputs(f"anon:{n}"))[1], variant_for(b, inputs(f"anon:{n}"))[1]) for n in range(N)]
    return (
        sum(x is not None and y is not None for x, y in found),
        sum(x is not None for x, _ in found),
        sum(y is not None for _, y in found),
    )


def test_experiments_of_one_layer_never_share_a_visitor_across_campaigns() -> None:
    both, n_a, n_b = in_both(book({"layer": "prices", "share": 0.5}, {"layer": "prices", "share": 0.5}))
    assert both == 0
    assert n_a + n_b == N
    assert abs(n_a - N / 2) < 50


def test_experiments_of_different_layers_are_independent() -> None:
    both, n_a, n_b = in_both(book({"share": 0.5}, {"share": 0.5}))
    assert abs(both - n_a * n_b / N) < 40
    assert both > 50


def test_experiments_without_a_share_share_what_their_layer_has_left() -> None:
    both, n_a, n_b = in_both(book({"layer": "prices", "share": 0.25}, {"layer": "prices"}))
    assert both == 0
    assert n_a + n_b == N
    assert abs(n_a - N / 4) < 40


def test_who_was_in_a_rival_before_the_book_changed_stays_out() -> None:
    compiled = book({"layer": "prices", "share": 0.5}, {"layer": "prices", "share": 0.5})
    b = compiled.campaigns["b"]
    mine = next(r for r in (f"anon:{n}" for n in range(N)) if variant_for(b, inputs(r))[1] is not None)
    assert variant_for(b, inputs(mine, assignments={"a.e": ["control", T0]}))[1] is None


def findings(first: dict[str, Any], second: dict[str, Any]) -> set[tuple[str, str]]:
    with pytest.raises(BookInvalid) as caught:
        book(first, second)
    return {(finding.code, finding.path) for finding in caught.value.findings}


def test_shares_of_a_layer_beyond_all_visitors_are_named() -> None:
    found = findings({"layer": "prices", "share": 0.7}, {"layer": "prices", "share": 0.6})
    assert ("shares_exceed", "campaigns.b.experiments.e.share") in found


def test_a_campaign_with_experiments_in_two_layers_is_refused() -> None:
    one = campaign("p", layer="prices")
    one["experiments"]["f"] = copy.deepcopy(one["experiments"]["e"]) | {"layer": "words", "share": 0.1}
    with pytest.raises(BookInvalid) as caught:
        load_book({"campaigns": {"a": one}})
    assert [f.code for f in caught.value.findings] == ["several_layers"]


def is_exposed(share: float, **more: Any) -> bool:
    compiled = book({"share": 1.0}, {"share": 1.0})
    found = inputs("anon:x", share, **more)
    decision = decide(found, World(compiled, PriorModel()), now_ms=T0, rng=SeededDice(1))
    assert decision.variants
    return exposed(found, decision, compiled, T0)


@pytest.mark.parametrize(("share", "expected"), [(0.3, False), (0.6, True), (0.9, False)])
def test_exposed_is_who_another_variant_would_have_answered_otherwise(share: float, expected: bool) -> None:
    assert is_exposed(share) is expected


def test_nobody_is_exposed_in_a_holdout_or_outside_of_experiments() -> None:
    compiled = book({"share": 1.0}, {"share": 1.0})
    found = inputs("anon:x", 0.6)
    decision = decide(found, World(compiled, PriorModel()), now_ms=T0, rng=SeededDice(1))
    decision.holdout = True
    assert not exposed(found, decision, compiled, T0)
    decision.holdout, decision.variants = False, {}
    assert not exposed(found, decision, compiled, T0)


@pytest.mark.parametrize(
    "changes", [{"offers.two.content": "y"}, {"offers.two.value": 20}, {"policy.kind": "thompson"}]
)
def test_what_an_eligible_offer_says_or_is_worth_exposes_too(changes: dict[str, Any]) -> None:
    variants = {"control": {}, "changed": changes}
    compiled = book({"share": 1.0, "variants": variants}, {"share": 1.0})
    found = inputs("anon:x", 0.1)
    decision = decide(found, World(compiled, PriorModel()), now_ms=T0, rng=SeededDice(1))
    assert exposed(found, decision, compiled, T0)
