"""A book is read whole, or refused with everything that is wrong in it."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import BookInvalid, book_version, compile_book, load_book
from engine.findings import Finding
from tests.engine.books import DESIGN, SMALL, book, segment


def findings_of(data: Any) -> list[Finding]:
    with pytest.raises(BookInvalid) as caught:
        load_book(data)
    return caught.value.findings


def test_the_printed_sample_of_the_design_loads_as_it_is() -> None:
    compiled = compile_book(load_book(yaml.safe_load(DESIGN)), "b1-00000000")
    campaign = compiled.campaigns["cart_recovery"]
    assert campaign.priority == 10
    assert campaign.placements == {"product_page", "cart_page"}
    assert (campaign.conversion_kind, campaign.conversion_within_ms) == ("order_completed", 300_000)
    assert campaign.weights["cart"] == (0.2, 0.4, 0.4)
    assert campaign.weights["new"] == (0.3, 0.2, 0.5)
    assert [(s.name, s.hold_ms) for s in campaign.segments] == [("high_intent", 30_000), ("near_checkout", 0)]
    offer = campaign.offers[0]
    assert (offer.cost, offer.cap_max, offer.cap_per_ms, offer.cool_down_ms) == (4.9, 1, 86_400_000, 1_800_000)
    assert (campaign.policy, campaign.holdout_share) == ("thompson", 0.05)
    assert (campaign.tier1.mode, campaign.tier1.timeout_ms) == ("enhance", 60)


def test_a_budget_marks_the_offer() -> None:
    read = load_book(yaml.safe_load(DESIGN))
    assert read.warnings == ()
    assert compile_book(read, "b1").campaigns["cart_recovery"].offers[0].budgeted


def test_a_cache_without_a_url_of_tier1_is_accepted_with_a_warning() -> None:
    assert load_book(book(tier1={"url": "http://tier1.example", "cache": "5s"})).warnings == ()
    (warning,) = load_book(book(tier1={"cache": "5s"})).warnings
    assert warning.path == "campaigns.c.tier1.cache"


def test_offers_that_the_model_cannot_tell_apart_are_warned_about() -> None:
    # Two names of one category, found by trying.
    from engine.schema import offer_code

    first = "gift"
    second = next(name for n in range(5000) if offer_code(name := f"gift_{n}") == offer_code(first))
    (warning,) = load_book(book(offers={first: {"content": "a"}, second: {"content": "b"}})).warnings
    assert warning.code == "offer_code"
    assert first in warning.message


def test_all_errors_come_at_once_in_the_order_of_the_book() -> None:
    data = yaml.safe_load(DESIGN)
    campaign = data["campaigns"]["cart_recovery"]
    data["timezone"] = "Europe/Berln"
    campaign["conversion"]["event"] = "purchas"
    campaign["segments"]["high_intent"]["all"][0]["feature"] = "scrol_share"
    campaign["segments"]["high_intent"]["hold"] = 30
    campaign["offers"]["free_shipping"]["when"]["segment"] = "near_chekout"
    campaign["offers"]["free_shipping"]["content"]["headline"] = "{{ cart.itms }}"
    campaign["policy"]["epsilon"] = 0.1
    campaign["experiments"]["intent_threshold"]["variants"]["looser"] = {"segments.hi_intent.hold": "1s"}
    assert [(f.code, f.nearest) for f in findings_of(data)] == [
        ("unknown_timezone", "Europe/Berlin"),
        ("unknown_event", "purchase"),
        ("unknown_feature", "scroll_share"),
        ("wrong_duration", None),
        ("unknown_segment", "near_checkout"),
        ("template_name", "cart.items"),
        ("epsilon_unused", None),
        ("unknown_path", "high_intent"),
    ]


def test_an_invalid_book_says_how_many_findings_and_survives_being_sent() -> None:
    with pytest.raises(BookInvalid) as caught:
        load_book({"campaigns": {}, "timezone": "x", "currency": "y"})
    assert caught.value.code == "book_invalid"
    assert caught.value.message.startswith("3 findings, the first: ")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.findings == caught.value.findings
    assert json.dumps([f.to_dict() for f in again.findings])


def test_conditions_nested_deeply_are_read_or_refused_but_never_crash() -> None:
    inner: dict[str, Any] = {"feature": "n_pages", "above": 1}
    for _ in range(10):
        inner = {"all": [inner]}
    load_book(segment(any=[inner]))


def places_in(data: Any, loc: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [loc] + [place for key, child in children for place in places_in(child, (*loc, key))]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(
        ["all", "margin", "30s", "high_intent", "{{ cart.items", "segments.high_intent", float("nan"), 10**400]
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["all", "none", "feature", "above", "in", "when", "trait.x", "variants"]), inner),
    max_leaves=5,
)  # fmt: skip
SAMPLE = yaml.safe_load(DESIGN)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(places_in(SAMPLE)[1:]), ANYTHING, st.booleans())
def test_whatever_stands_in_a_book_it_is_compiled_or_refused_with_findings(place: Any, value: Any, add: bool) -> None:
    data = copy.deepcopy(SAMPLE)
    at = data
    for step in place[:-1]:
        at = at[step]
    if add and isinstance(at, dict):
        at[f"{place[-1]}_"] = value
    else:
        at[place[-1]] = value
    findings: list[Finding] = []
    try:
        read = load_book(data)
    except BookInvalid as invalid:
        findings = invalid.findings
    else:
        compile_book(read, book_version(read, 1))
    assert all(finding.message and finding.code for finding in findings)


def test_durations_are_read_in_every_unit() -> None:
    read = load_book(book(conversion={"within": "1h30m"}, tier1={"timeout": "60ms"}))
    campaign = compile_book(read, "b1").campaigns["c"]
    assert campaign.conversion_within_ms == 5_400_000
    assert campaign.tier1.timeout_ms == 60


def test_the_version_names_the_content_and_not_the_layout() -> None:
    other_order = {key: SMALL[key] for key in reversed(SMALL)}
    version = book_version(load_book(SMALL), 3)
    assert version.startswith("b3-")
    assert len(version) == len("b3-") + 8
    assert book_version(load_book(other_order), 3) == version
    assert book_version(load_book(book(priority=1)), 3) != version


def test_a_book_read_back_from_its_data_is_the_same_book() -> None:
    read = load_book(yaml.safe_load(DESIGN))
    again = load_book(json.loads(json.dumps(read.data())))
    assert again == read


def test_what_is_done_to_the_data_afterwards_does_not_reach_the_book() -> None:
    data = book()
    read = load_book(data)
    data["campaigns"]["c"]["priority"] = 99
    read.data()["campaigns"]["c"]["priority"] = 98
    assert "priority" not in read.data()["campaigns"]["c"]


@pytest.mark.parametrize("name", ["Order Completed", "purchase", "order completed"])
def test_conversions_go_by_the_names_of_segment_and_ga4(name: str) -> None:
    campaign = compile_book(load_book(book(conversion={"event": name})), "b1").campaigns["c"]
    assert campaign.conversion_kind == "order_completed"
