"""Events of Segment and GA4 become the signals they mean, with their times and ids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import Event, Rejected, parse_event
from engine.fields import traits
from engine.moments import parse_moment

NOW_MS = 1_714_564_800_000
"""2024-05-01T12:00:00Z."""


def parsed(default_type: str | None = None, **event: Any) -> Event:
    event = {"anonymousId": "a", "type": default_type or "track", **event}
    return parse_event(event, received_ms=NOW_MS, message_key=b"k", default_type=default_type)


def signal(event: str, /, **properties: Any) -> tuple[str, dict[str, Any]]:
    found = parsed(event=event, properties=properties).signal
    return found.kind, found.fields


ITEM = {"id": "p", "quantity": 1}


@pytest.mark.parametrize(
    ("name", "properties", "kind", "fields"),
    [
        ("Page Viewed", {"url": "u", "title": "t"}, "page", {"url": "u", "title": "t"}),
        ("page", {"height_px": 9}, "page", {"height_px": 9}), ("page_view", {}, "page", {}),
        ("Screen Viewed", {"name": "n"}, "page", {"name": "n"}),
        ("screen", {}, "page", {}),
        ("Scroll Depth", {"scroll_px": 5, "scroll_share": 0.5}, "scroll", {"px": 5, "share": 0.5}),
        ("scroll", {"percent_scrolled": 90}, "scroll", {"share": 0.9}),
        ("Heartbeat", {"time_on_page_s": 3}, "heartbeat", {"time_s": 3}),
        ("page_ping", {}, "heartbeat", {"increment_s": 10}),
        ("page_ping", {"time_on_page_s": 4}, "heartbeat", {"time_s": 4}),
        ("user_engagement", {"engagement_time_msec": 1500}, "heartbeat", {"increment_s": 1.5}),
        ("Hover", {"hover_ms": 7, "target": "x"}, "hover", {"ms": 7, "target": "x"}),
        ("Clicked", {"target": "x"}, "click", {"target": "x"}), ("click", {}, "click", {}),
        ("Product Viewed", {"product_id": "p"}, "product_viewed", {"items": [ITEM]}),
        ("view_item", {"items": [{"item_id": "p"}], "currency": "eur"}, "product_viewed",
         {"items": [ITEM], "currency": "EUR"}),
        ("Product Added", {"product_id": 7, "price": 2, "quantity": 3}, "product_added",
         {"items": [{"id": "7", "price": 2, "quantity": 3}]}),
        ("add_to_cart", {"items": [{"item_id": "p"}]}, "product_added", {"items": [ITEM]}),
        ("Product Removed", {"product_id": "p"}, "product_removed", {"items": [ITEM]}),
        ("remove_from_cart", {}, "product_removed", {"items": []}),
        ("Cart Viewed", {"products": [{"product_id": "p"}]}, "cart_viewed", {"items": [ITEM]}),
        ("view_cart", {}, "cart_viewed", {}),
        ("Checkout Started", {"step": 2, "value": 9}, "checkout_started", {"step": 2, "value": 9}),
        ("begin_checkout", {}, "checkout_started", {}),
        ("Order Completed", {"order_id": "o", "revenue": 5, "value": 9, "currency": "USD"}, "order_completed",
         {"order_id": "o", "value": 5, "currency": "USD"}),
        ("purchase", {"transaction_id": "t", "value": 0}, "order_completed", {"order_id": "t", "value": 0}),
        ("Order Refunded", {"order_id": "o"}, "order_refunded", {"order_id": "o"}),
        ("refund", {"transaction_id": "o"}, "order_refunded", {"order_id": "o"}),
        ("Order Cancelled", {"order_id": "o"}, "order_cancelled", {"order_id": "o"}),
        ("Offer Viewed", {"decision_id": "d", "offer_id": "o"}, "offer_viewed", {"decision_id": "d", "offer_id": "o"}),
        ("view_promotion", {"promotion_id": "o"}, "offer_viewed", {"offer_id": "o"}),
        ("Offer Clicked", {"offer_id": "o"}, "offer_clicked", {"offer_id": "o"}),
        ("select_promotion", {}, "offer_clicked", {}), ("Offer Redeemed", {}, "offer_redeemed", {}),
        ("Level Up", {"scroll_px": -1}, "custom", {"name": "Level Up", "properties": {"scroll_px": -1}}),
        ("Level Up", {}, "custom", {"name": "Level Up"}),
        ("Clicked", {"target": "b", "shade": {"of": ["red"]}}, "click",
         {"target": "b", "properties": {"shade": {"of": ["red"]}}}),
    ],
)  # fmt: skip
def test_an_event_means_a_signal(name: str, properties: dict[str, Any], kind: str, fields: dict[str, Any]) -> None:
    assert signal(name, **properties) == (kind, fields)


@pytest.mark.parametrize("name", ["Add To Cart", "ADD_TO_CART", "addtocart", "add_to cart", "Add_To_Cart"])
def test_names_are_matched_without_case_spaces_and_underscores(name: str) -> None:
    assert signal(name)[0] == "product_added"


@pytest.mark.parametrize("name", ["Add-To-Cart", "add to carts", "Cart Added"])
def test_a_name_that_is_only_similar_is_custom(name: str) -> None:
    assert signal(name)[0] == "custom"


def test_null_properties_count_as_absent() -> None:
    assert signal("Scroll Depth", scroll_px=None, scroll_share=0.3) == ("scroll", {"share": 0.3})


def test_the_url_comes_from_the_context_where_properties_have_none() -> None:
    context = {"page": {"url": "https://x"}}
    assert parsed(event="Clicked", context=context).signal.fields == {"url": "https://x"}
    assert parsed(event="Clicked", context=context, properties={"url": "y"}).signal.fields == {"url": "y"}


def test_a_page_call_has_its_name_and_properties() -> None:
    found = parsed("page", name="Shoes", properties={"height_px": 10})
    assert (found.signal.kind, found.signal.fields) == ("page", {"name": "Shoes", "height_px": 10})


def test_identify_with_both_ids_links_and_with_one_does_not() -> None:
    assert parsed("identify", userId="u").link == "a"
    assert parsed("identify").link is None
    assert parsed("track", userId="u", event="x").link is None


def test_alias_links_the_previous_id_or_else_the_anonymous_one() -> None:
    assert parsed("alias", userId="u", previousId="old").link == "old"
    assert parsed("alias", userId="u").link == "a"


def test_the_signal_goes_to_the_user_where_one_is_named() -> None:
    assert parsed(event="x", userId="u").track == "user:u"
    assert parsed(event="x").track == "anon:a"


def test_traits_are_scalars_and_bounded() -> None:
    given_traits = {"plan": "plus", "age": 3, "nested": {"x": 1}, "list": [1], "long": "x" * 1025, "none": None, "": 1}
    assert traits(given_traits) == {"plan": "plus", "age": 3, "none": None}
    assert len(traits({f"t{i}": i for i in range(100)})) == 64


# -- times -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01T12:00:00Z", NOW_MS), ("2024-05-01T12:00:00", NOW_MS), ("2024-05-01 12:00:00", NOW_MS),
        ("2024-05-01T14:00:00+02:00", NOW_MS), ("2024-05-01T14:00:00+0200", NOW_MS), ("20240501T120000Z", NOW_MS),
        ("2024-05-01t12:00:00.123456789z", NOW_MS + 123), ("2024-05-01T12:00:00,5Z", NOW_MS + 500),
        ("2024-05-01", NOW_MS - 43_200_000), (NOW_MS, NOW_MS), (NOW_MS + 0.9, NOW_MS), (" 2024-05-01T12:00Z ", NOW_MS),
        ("2024050112000", None), ("2024-05-01x12:00:00", None), ("1714564800000", None), ("2024-W01-1", None),
        ("2024-02-30", None), ("2024-05-01T25:00:00", None), ("", None), (None, None), (True, None), (1e17, None),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200_000), ("٢٠٢٤-05-01", None),
    ],
)  # fmt: skip
def test_a_moment_is_iso_8601_or_epoch_milliseconds(text: object, moment: int | None) -> None:
    assert parse_moment(text) == moment


def test_without_a_timestamp_the_receipt_counts() -> None:
    assert parsed(event="x").signal.t_ms == NOW_MS
    assert parsed(event="x", sentAt=NOW_MS - 9_000).signal.t_ms == NOW_MS


def test_a_clock_that_is_off_is_corrected_by_sent_at() -> None:
    hour = 3_600_000
    found = parsed(event="x", timestamp=NOW_MS + 2 * hour - 5_000, sentAt=NOW_MS + 2 * hour)
    assert found.signal.t_ms == NOW_MS - 5_000


def test_rudderstacks_original_timestamp_is_a_timestamp() -> None:
    assert parsed(event="x", originalTimestamp=NOW_MS - 5_000, sentAt=NOW_MS).signal.t_ms == NOW_MS - 5_000


def test_a_correction_beyond_the_bounds_is_refused() -> None:
    with pytest.raises(Rejected) as refused:
        parsed(event="x", timestamp=NOW_MS, sentAt="2001-01-01")
    assert refused.value.code == "bad_timestamp"


def test_the_bounds_of_time_are_in() -> None:
    assert parsed(event="x", timestamp="2000-01-01").signal.t_ms == 946_684_800_000
    assert parsed(event="x", timestamp=NOW_MS + 86_400_000).signal.t_ms == NOW_MS + 86_400_000


# -- laws ------------------------------------------------------------------------------------------------


def test_the_same_message_id_has_the_same_hash_and_another_key_another() -> None:
    one, two = parsed(event="x", messageId="m"), parsed(event="y", messageId="m")
    assert one.signal.message == two.signal.message
    event = {"type": "track", "anonymousId": "a", "event": "x", "messageId": "m"}
    assert parse_event(event, received_ms=NOW_MS, message_key=b"other").signal.message != one.signal.message


def test_without_a_message_id_the_content_or_the_spare_tells() -> None:
    assert parsed(event="x").signal.message == parsed(event="x").signal.message != parsed(event="y").signal.message
    event = {"type": "track", "anonymousId": "a", "event": "x"}
    spared = parse_event(event, received_ms=NOW_MS, message_key=b"k", spare_message=5)
    assert spared.signal.message == 5


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@given(
    st.sampled_from(["Scroll Depth", "purchase", "add_to_cart", "heartbeat", "hover", "Checkout Started", "Clicked"]),
    st.dictionaries(st.sampled_from(["scroll_px", "scroll_share", "price", "items", "value", "hover_ms", "step",
                                     "time_on_page_s", "product_id", "currency", "target", "order_id"]), VALUES),
)  # fmt: skip
def test_properties_are_refused_or_become_finite_numbers(name: str, properties: dict[str, Any]) -> None:
    codes = {"bad_property"}
    try:
        _, fields = signal(name, **properties)
    except Rejected as refused:
        codes.add(refused.code)
        fields = {}
    assert codes == {"bad_property"}
    for value in fields.values():
        assert not isinstance(value, float) or 0 <= value <= 1e12
