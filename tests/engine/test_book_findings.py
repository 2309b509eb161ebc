"""Everything that can be wrong in a book, one by one: named with its place, its code and what was probably meant."""

from __future__ import annotations

from typing import Any

import pytest

from engine.book import BookInvalid, load_book
from engine.findings import Finding
from tests.engine.books import SMALL, book, clause, experiment, offer, segment


def only(data: Any) -> Finding:
    """The one finding of a book."""
    with pytest.raises(BookInvalid) as caught:
        load_book(data)
    assert len(caught.value.findings) == 1, [f.text() for f in caught.value.findings]
    return caught.value.findings[0]


C = "campaigns.c"
S, G, V = f"{C}.segments.s", f"{C}.offers.gift", f"{C}.experiments.e.variants.other"
MITTE = {"berlin_mitte": {"lat": 1, "lon": 1, "radius_km": 1}}
WRONG: dict[str, tuple[dict[str, Any], str, str, str | None]] = {
    # what is wrong: the book, where, the code, what was probably meant
    "an unknown key at the top": (SMALL | {"curency": "EUR"}, "curency", "unknown_key", "currency"),
    "an unknown key in a campaign": (book(segmnts={}), f"{C}.segmnts", "unknown_key", "segments"),
    "an unknown key in a clause": (
        clause(feature="churn", above=0.1, leave_bellow=0.05),
        f"{S}.all[0].leave_bellow", "unknown_key", "leave_below",
    ),
    "an unknown key in when": (offer(when={"segmnt": "keen"}), f"{G}.when.segmnt", "unknown_key", "segment"),
    "a number in when's short form": (offer(when={"score": 1}), f"{G}.when.score", "unknown_key", "score"),
    "a label as a key of a clause": (clause(os="ios"), f"{S}.all[0].os", "unknown_key", None),
    "a number as a key of a clause": (clause(n_pages=3), f"{S}.all[0].n_pages", "unknown_key", None),
    "a second feature in a clause": (
        clause(feature="score", above=0.1, stage="cart"), f"{S}.all[0].stage", "unknown_key", None,
    ),
    "a conversion waited for longer than anything is kept": (
        book(conversion={"event": "Order Completed", "within": "400d"}),
        f"{C}.conversion.within", "out_of_range", None,
    ),
    "a Tier 1 that is waited for longer than any decision": (
        book(tier1={"url": "http://x/", "timeout": "20m"}), f"{C}.tier1.timeout", "out_of_range", None,
    ),
    "an unknown feature": (
        clause(feature="scroll_shar", above=0.5), f"{S}.all[0].feature", "unknown_feature", "scroll_share",
    ),
    "an unknown feature in a nested group": (
        segment(any=[{"none": [{"feature": "oss", "in": ["ios"]}]}]),
        f"{S}.any[0].none[0].feature", "unknown_feature", "os",
    ),
    "an unknown value of a label": (
        clause(feature="stage", **{"in": ["cart", "chekout"]}),
        f"{S}.all[0].in[1]", "unknown_value", "checkout",
    ),
    "an unknown value in when": (offer(when={"os": "ioss"}), f"{G}.when.os", "unknown_value", "ios"),
    "a segment that does not exist": (
        offer(when={"segment": "kean"}), f"{G}.when.segment", "unknown_segment", "keen",
    ),
    "a segment that does not exist, in a list": (
        offer(when={"segment": ["keen", "kene"]}), f"{G}.when.segment[1]", "unknown_segment", "keen",
    ),
    "a segment that does not exist, in a clause": (
        offer(when={"all": [{"feature": "segment", "equals": "keeen"}]}),
        f"{G}.when.all[0].equals", "unknown_segment", "keen",
    ),
    "a geofence that does not exist": (
        clause(feature="geofence", equals="berlin") | {"geofences": MITTE},
        f"{S}.all[0].equals", "unknown_geofence", "berlin_mitte",
    ),
    "segments that name each other": (
        book(segments={
            "a": {"all": [{"feature": "segment", "in": ["b"]}]}, "b": {"none": [{"feature": "segment", "equals": "a"}]},
        }, offers={}),
        f"{C}.segments.a.all[0].in", "segment_cycle", None,
    ),
    "a segment that names itself": (
        book(segments={"a": {"any": [{"feature": "segment", "in": ["a"]}]}}, offers={}),
        f"{C}.segments.a.any[0].in", "segment_cycle", None,
    ),
    "a share written in per cent": (
        clause(feature="scroll_share", above=70), f"{S}.all[0].above", "never_met", None,
    ),
    "a share above 1": (clause(feature="churn", above=1), f"{S}.all[0].above", "never_met", None),
    "a count below 0": (clause(feature="n_pages", below=0), f"{S}.all[0].below", "never_met", None),
    "an hour of 24": (clause(feature="local_hour", equals=24), f"{S}.all[0].equals", "never_met", None),
    "a range the wrong way round": (
        clause(feature="n_pages", between=[5, 2]), f"{S}.all[0].between", "never_met", None,
    ),
    "a range outside what there is": (
        clause(feature="recency", between=[2, 3]), f"{S}.all[0].between", "never_met", None,
    ),
    "a score the weights cannot reach": (
        book(
            score={"weights": {"default": {"recency": 0.1, "depth": 0.2, "conversion": 0.3}}},
            segments={"s": {"all": [{"feature": "score", "above": 0.6}]}}, offers={},
        ),
        f"{S}.all[0].above", "never_met", None,
    ),
    "two clauses that exclude each other": (
        segment(all=[{"feature": "n_pages", "above": 5}, {"feature": "n_pages", "below": 3}]),
        f"{S}.all[1]", "never_met", None,
    ),
    "leaving above the threshold for entering": (
        clause(feature="score", above=0.5, leave_below=0.6),
        f"{S}.all[0].leave_below", "leave_beyond_enter", None,
    ),
    "leaving below the threshold for entering": (
        clause(feature="n_pages", below=5, leave_above=4),
        f"{S}.all[0].leave_above", "leave_beyond_enter", None,
    ),
    "a leave threshold alone": (
        clause(feature="score", below=0.5, leave_below=0.6),
        f"{S}.all[0].leave_below", "leave_without_enter", None,
    ),
    "two comparisons in one clause": (
        clause(feature="score", above=0.2, below=0.5), f"{S}.all[0]", "one_comparison", None,
    ),
    "no comparison in a clause": (clause(feature="score"), f"{S}.all[0]", "one_comparison", None),
    "a label compared as a number": (
        clause(feature="os", above=1), f"{S}.all[0].above", "wrong_comparison", None,
    ),
    "a number compared as a label": (
        clause(feature="score", **{"in": [0.5]}), f"{S}.all[0].in", "wrong_comparison", None,
    ),
    "text for a number": (clause(feature="score", above="0.5"), f"{S}.all[0].above", "wrong_type", None),
    "true for a number": (clause(feature="score", above=True), f"{S}.all[0].above", "wrong_type", None),
    "a number for a label's value": (
        clause(feature="country", equals=49), f"{S}.all[0].equals", "wrong_type", None,
    ),
    "three numbers for a range": (
        clause(feature="n_pages", between=[1, 2, 3]), f"{S}.all[0].between", "wrong_type", None,
    ),
    "a clause that is no mapping": (segment(all=["high"]), f"{S}.all[0]", "wrong_type", None),
    "a segment without a condition": (segment(hold="5s"), f"{S}", "empty_condition", None),
    "a segment with an empty list": (segment(all=[]), f"{S}.all", "empty_condition", None),
    "a segment with nothing after all": (segment(all=None), f"{S}.all", "empty_condition", None),
    "an unknown time zone": (SMALL | {"timezone": "Europe/Belin"}, "timezone", "unknown_timezone", "Europe/Berlin"),
    "a time zone that is a path": (SMALL | {"timezone": "../etc"}, "timezone", "unknown_timezone", None),
    "a currency in small letters": (SMALL | {"currency": "eur"}, "currency", "wrong_name", None),
    "an unknown stage in the weights": (
        book(score={"weights": {"crat": {"recency": 1, "depth": 1, "conversion": 1}}}),
        f"{C}.score.weights.crat", "unknown_stage", "cart",
    ),
    "a weight left out": (
        book(score={"weights": {"default": {"recency": 1, "depth": 1}}}),
        f"{C}.score.weights.default.conversion", "missing", None,
    ),
    "an unknown conversion event": (
        book(conversion={"event": "Order Complete"}), f"{C}.conversion.event", "unknown_event", "Order Completed",
    ),
    "a window without a unit": (book(conversion={"within": 300}), f"{C}.conversion.within", "wrong_duration", None),
    "a window of nothing": (book(conversion={"within": "0s"}), f"{C}.conversion.within", "out_of_range", None),
    "a value nobody knows": (offer(value="margn"), f"{G}.value", "wrong_value", "margin"),
    "a negative value": (offer(value=-1), f"{G}.value", "wrong_value", None),
    "a negative cost": (offer(cost=-0.5), f"{G}.cost", "out_of_range", None),
    "an offer without content": (book(offers={"gift": {}}), f"{G}.content", "missing", None),
    "an offer with empty content": (offer(content={}), f"{G}.content", "empty_content", None),
    "a cap of nothing": (
        offer(caps={"per_profile": {"max": 0, "per": "1d"}}), f"{G}.caps.per_profile.max", "out_of_range", None,
    ),
    "a cap in no unit": (
        offer(caps={"per_profile": {"max": 1, "per": "day"}}),
        f"{G}.caps.per_profile.per", "wrong_duration", None,
    ),
    "a budget in an unknown unit": (
        offer(budget={"max": 5, "unit": "serving"}), f"{G}.budget.unit", "unknown_value", "servings",
    ),
    "a template that names what is not there": (
        offer(content=["{{ cart.itms }}"]), f"{G}.content[0]", "template_name", "cart.items",
    ),
    "a template with an unknown root": (
        offer(content="{{ basket.items }}"), f"{G}.content", "template_root", None,
    ),
    "a template with an unknown filter": (
        offer(content="{{ cart.value | mony }}"), f"{G}.content", "template_filter", "money",
    ),
    "a template that is not closed": (offer(content="{{ cart.value"), f"{G}.content", "template_unclosed", None),
    "an unknown policy": (book(policy={"kind": "thomson"}), f"{C}.policy.kind", "unknown_value", "thompson"),
    "epsilon without its policy": (
        book(policy={"kind": "greedy", "epsilon": 0.1}), f"{C}.policy.epsilon", "epsilon_unused", None,
    ),
    "a holdout of most visitors": (book(holdout={"share": 0.6}), f"{C}.holdout.share", "out_of_range", None),
    "a name in capitals": (book(offers={"Gift": {"content": "x"}}), f"{C}.offers.Gift", "wrong_name", None),
    "a name with a dash": (book(placements=["home-page"]), f"{C}.placements[0]", "wrong_name", None),
    "a campaign without placements": (book(placements=[]), f"{C}.placements", "empty_placements", None),
    "a book without campaigns": ({"campaigns": {}}, "campaigns", "empty_book", None),
    "an unknown mode of Tier 1": (book(tier1={"mode": "enhanse"}), f"{C}.tier1.mode", "unknown_value", "enhance"),
    "a latitude of 91": (
        SMALL | {"geofences": {"pole": {"lat": 91, "lon": 0, "radius_km": 1}}},
        "geofences.pole.lat", "out_of_range", None,
    ),
    "an experiment on a path that does not exist": (
        experiment({"segments.kean.all[0].above": 0.5}),
        f'{V}["segments.kean.all[0].above"]', "unknown_path", "keen",
    ),
    "an experiment on a clause too far": (
        experiment({"segments.keen.all[1].above": 0.5}),
        f'{V}["segments.keen.all[1].above"]', "unknown_path", None,
    ),
    "an experiment on a key nobody knows": (
        experiment({"policy.kin": "greedy"}), f'{V}["policy.kin"]', "unknown_path", "kind",
    ),
    "an experiment on an unknown part": (
        experiment({"polcy.kind": "greedy"}), f'{V}["polcy.kind"]', "unknown_path", "policy",
    ),
    "an experiment on something that is no path": (
        experiment({"segments..keen": 1}), f'{V}["segments..keen"]', "unknown_path", None,
    ),
    "an experiment with a value that cannot be": (
        experiment({"segments.keen.all[0].above": 0.5}),
        f'{V}["segments.keen.all[0].above"]', "leave_beyond_enter", None,
    ),
    "an experiment on the holdout": (
        experiment({"holdout.share": 0.5}), f'{V}["holdout.share"]', "fixed_path", None,
    ),
    "an experiment with one variant": (
        book(experiments={"e": {"variants": {"control": {}}}}), f"{C}.experiments.e.variants", "one_variant", None,
    ),
    "experiments with more shares than there are": (
        book(experiments={
            "e": {"variants": {"a": {}, "b": {}}, "share": 0.6}, "f": {"variants": {"a": {}, "b": {}}, "share": 0.6},
        }),
        f"{C}.experiments", "shares_exceed", None,
    ),
    "a list where a book should be": ([], "", "wrong_type", None),  # type: ignore[dict-item]
    "nothing where a book should be": (None, "", "wrong_type", None),  # type: ignore[dict-item]
    "a number that is none": (offer(cost=float("nan")), f"{G}.cost", "wrong_type", None),
    "an endless number": (offer(cost=10**400), f"{G}.cost", "wrong_type", None),
    "half a character": (offer(content="\ud800"), f"{G}.content", "wrong_type", None),
    "a key that is a number": (SMALL | {1: 2}, '["1"]', "wrong_name", None),  # type: ignore[dict-item]
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_it_is_named_with_its_place_its_code_and_what_was_probably_meant(what: str) -> None:
    data, path, code, near = WRONG[what]
    finding = only(data)
    assert (finding.path, finding.code, finding.nearest) == (path, code, near), finding.text()
    assert finding.expected
    assert finding.expected in finding.message
    if near:
        assert f"did you mean {near}?" in finding.message


def test_a_label_as_a_key_of_a_clause_is_told_with_the_clause_that_was_meant() -> None:
    assert "{feature: os, in: [ios, android]}" in only(clause(os=["ios", "android"])).message
    assert "{feature: n_pages, above: 3}" in only(clause(n_pages=3)).message
    assert "directly under an offer's when" in only(clause(**{"trait.plan": "gold"})).message


@pytest.mark.parametrize(
    ("condition", "warned"),
    [
        ({"all": [{"feature": "os", "equals": "ios"}, {"feature": "os", "equals": "android"}]}, ".all[1]"),
        ({"os": "ios", "all": [{"feature": "os", "in": ["android", "windows"]}]}, ".all[0]"),
        ({"all": [{"feature": "os", "in": ["ios", "android"]}, {"feature": "os", "in": ["android"]}]}, None),
        ({"any": [{"feature": "os", "equals": "ios"}, {"feature": "os", "equals": "android"}]}, None),
        ({"os": "ios", "none": [{"feature": "os", "equals": "android"}]}, None),
        ({"all": [{"feature": "cohort", "equals": "a"}, {"feature": "cohort", "equals": "b"}]}, None),
        ({"all": [{"feature": "os", "equals": "ios"}, {"feature": "os", "not_in": ["android"]}]}, None),
    ],
)
def test_labels_that_can_never_hold_together_are_warned_of(condition: dict[str, Any], warned: str | None) -> None:
    found = [w.path for w in load_book(offer(when=condition)).warnings if w.code == "never_met"]
    assert found == ([] if warned is None else [f"{G}.when{warned}"])


def test_a_book_that_is_too_deep_is_refused() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    assert only(offer(content=deep)).code == "too_deep"


def test_a_book_that_is_too_large_is_refused() -> None:
    assert only(offer(content=[0] * 200_001)).code == "too_large"


def test_a_chain_of_segments_may_be_longer_than_the_stack_and_its_circle_is_found() -> None:
    def chain(last: dict[str, Any]) -> dict[str, Any]:
        named = {f"s{i}": {"all": [{"feature": "segment", "in": [f"s{i + 1}"]}]} for i in range(2000)}
        return {"campaigns": {"c": {"placements": ["home"], "segments": {**named, "s2000": last}}}}

    load_book(chain({"all": [{"feature": "n_pages", "above": 1}]}))
    found = only(chain({"all": [{"feature": "segment", "in": ["s1999"]}]}))
    assert (found.code, found.found) == ("segment_cycle", '"s1999 → s2000 → s1999"')


def test_a_wrong_entry_of_a_list_is_told_alone_and_an_empty_list_in_words() -> None:
    def told(tell: list[str]) -> dict[str, Any]:
        segments = {"s": {"all": [{"feature": "n_pages", "above": 1}]}}
        return {
            "campaigns": {
                "c": {
                    "placements": ["home"],
                    "segments": segments,
                    "webhooks": {"w": {"segments": ["s"], "tell": tell}},
                }
            }
        }

    assert only(told(["entre"])).nearest == "enter"
    assert only(told([])).expected == "a list of at least as many entries: 1"


def test_content_full_of_unclosed_expressions_is_read_in_one_pass() -> None:
    assert only(offer(content="{{" * 100_000 + " " * 400_000)).code == "template_unclosed"
    assert only(offer(content="{{ cart.items " + "|" * 100_000 + "}}")).code == "template_long"
