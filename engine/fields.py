"""Properties of an event into the canonical fields of a signal, each checked; what is not understood is left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from engine.errors import InvalidInput
from engine.tokens import MAX_TOKEN

Fields = dict[str, Any]
Properties = Mapping[str, object]

MAX_TRAITS: Final = 64
MAX_TRAIT_BYTES: Final = 1024
MAX_ITEMS: Final = 200
MAX_TEXT: Final = 512
MAX_URL: Final = 2048
MAX_ID: Final = 256
PING_S: Final = 10.0
"""A page ping that names no time stands for ten seconds (Snowplow's default heartbeat)."""
MONEY: Final = 1e12
WEEK_S: Final = 604_800.0

_UNDERSTOOD: Final = frozenset(
    {"url", "title", "name", "height_px", "scroll_px", "scroll_share", "percent_scrolled", "time_on_page_s",
     "engagement_time_msec", "hover_ms", "target", "product_id", "item_id", "sku", "id", "price", "quantity",
     "currency", "products", "items", "step", "order_id", "transaction_id", "revenue", "value", "total",
     "decision_id", "offer_id", "promotion_id", "token"}
)  # fmt: skip
CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_CURRENCY: Final = re.compile("[A-Za-z]{3}")


class Rejected(InvalidInput):
    """An event that is not taken; the code is stable, the message names property, found and expected."""


def found(value: object) -> str:
    """What was found, short enough for a message.

    >>> found(None), found("x" * 80)[-3:], found([1])
    ('nothing', 'x…"', 'a list')
    """
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f'"{value[:60]}…"' if len(value) > 60 else f'"{value}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return str(value)[:60]


def refuse(name: str, value: object, expected: str, code: str = "bad_property") -> Rejected:
    """The rejection of one property."""
    return Rejected(code, f"{name}: found {found(value)}, expected {expected}")


def number(properties: Properties, name: str, low: float, high: float) -> float | None:
    """A finite number within bounds, or None where the property is absent or null."""
    value = properties.get(name)
    if value is None:
        return None
    # `type` rather than isinstance: true is an int in Python and no number in JSON.
    if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]
        raise refuse(f"properties.{name}", value, f"a number from {low:.0f} to {high:.0f}")
    return float(value)  # type: ignore[arg-type]


def first_number(properties: Properties, names: Iterable[str], low: float, high: float) -> float | None:
    """The first of several names that is given."""
    for name in names:
        value = number(properties, name, low, high)
        if value is not None:
            return value
    return None


def text(properties: Properties, name: str, limit: int = MAX_TEXT) -> str | None:
    """A string, cut to `limit` characters; None where absent, null or empty."""
    value = properties.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise refuse(f"properties.{name}", value, "a string")
    return value[:limit]


def identifier(name: str, value: object, code: str = "bad_property") -> str | None:
    """An id: 1–256 characters without control characters; whole numbers count as their digits; None where null."""
    if value is None:
        return None
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or has_control(value):
        raise refuse(name, value, f"a string of 1 to {MAX_ID} characters without control characters", code)
    return value


def has_control(value: str) -> bool:
    """Whether a text has control characters (C0, DEL, C1)."""
    # What is printable has none; to ask that first takes a fifth of the time of the search.
    return not value.isprintable() and CONTROL.search(value) is not None


def first_id(properties: Properties, names: Iterable[str], prefix: str = "properties") -> str | None:
    """The first of several ids that is given."""
    for name in names:
        if (value := identifier(f"{prefix}.{name}", properties.get(name))) is not None:
            return value
    return None


def currency(properties: Properties) -> str | None:
    """An ISO 4217 code in capitals."""
    value = properties.get("currency")
    if value is None:
        return None
    if not isinstance(value, str) or _CURRENCY.fullmatch(value) is None:
        raise refuse("properties.currency", value, "an ISO 4217 code of three letters")
    return value.upper()


def items(properties: Properties) -> list[Fields]:
    """The products: `products[]` or `items[]`, else the one described by the properties themselves."""
    for name in ("products", "items"):
        rows = properties.get(name)
        if rows is None:
            continue
        if not isinstance(rows, list) or len(rows) > MAX_ITEMS:
            raise refuse(f"properties.{name}", rows, f"a list of at most {MAX_ITEMS} objects")
        read = (_item(row, f"properties.{name}[{i}]") for i, row in enumerate(rows))
        return [item for item in read if item is not None]
    single = _item(properties, "properties")
    return [] if single is None else [single]


def _item(row: object, where: str) -> Fields | None:
    if not isinstance(row, Mapping):
        raise refuse(where, row, "an object")
    product = first_id(row, ("product_id", "item_id", "sku", "id"), where)
    price, quantity = row.get("price"), row.get("quantity")
    if price is not None and (type(price) not in (int, float) or not 0 <= price <= MONEY):
        raise refuse(f"{where}.price", price, "a number from 0 to 1000000000000")
    if quantity is not None and (type(quantity) not in (int, float) or not 1 <= quantity <= 1e6):
        raise refuse(f"{where}.quantity", quantity, "a number from 1 to 1000000")
    if product is None:
        return None
    item: Fields = {"id": product, "quantity": 1 if quantity is None else quantity}
    if price is not None:
        item["price"] = float(price)
    return item


def traits(value: object, where: str = "traits") -> Fields:
    """Scalar traits, at most 64 of at most 1 KB; nested and longer ones are left out."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(where, value, "an object", "bad_traits")
    kept: Fields = {}
    for name, trait in value.items():
        if not 0 < len(name) <= 128 or has_control(name):
            continue
        if isinstance(trait, str):
            if len(trait) > MAX_TRAIT_BYTES or len(trait.encode()) > MAX_TRAIT_BYTES:
                continue
        elif trait is not None and not isinstance(trait, int | float):
            continue
        kept[name] = trait
        if len(kept) == MAX_TRAITS:
            break
    return kept


def others(properties: Properties) -> Fields:
    """The properties that no reader understands, as they came: kept with the signal, and read by nothing."""
    if _UNDERSTOOD.issuperset(properties):
        return {}
    return {name: value for name, value in properties.items() if name not in _UNDERSTOOD}


def _put(fields: Fields, **given: object) -> Fields:
    for name, value in given.items():
        if value is not None:
            fields[name] = value
    return fields


def _page(p: Properties) -> Fields:
    text(p, "url")
    return _put({}, title=text(p, "title"), name=text(p, "name"), height_px=number(p, "height_px", 0, 1e7))


def _scroll(p: Properties) -> Fields:
    share = number(p, "scroll_share", 0, 1)
    if share is None and (percent := number(p, "percent_scrolled", 0, 100)) is not None:
        share = percent / 100
    return _put({}, px=number(p, "scroll_px", 0, 1e7), share=share, height_px=number(p, "height_px", 0, 1e7))


def _heartbeat(p: Properties) -> Fields:
    time_s = number(p, "time_on_page_s", 0, WEEK_S)
    if time_s is not None:
        return {"time_s": time_s}
    increment_ms = number(p, "engagement_time_msec", 0, WEEK_S * 1000)
    return {} if increment_ms is None else {"increment_s": increment_ms / 1000}


def _page_ping(p: Properties) -> Fields:
    return _heartbeat(p) or {"increment_s": PING_S}


def _hover(p: Properties) -> Fields:
    return _put({}, ms=number(p, "hover_ms", 0, WEEK_S * 1000), target=text(p, "target"))


def _click(p: Properties) -> Fields:
    return _put({}, target=text(p, "target"))


def _products(p: Properties) -> Fields:
    return _put({"items": items(p)}, currency=currency(p))


def _cart(p: Properties) -> Fields:
    return _put({}, items=items(p) or None, currency=currency(p))


def _value(p: Properties) -> float | None:
    return first_number(p, ("revenue", "value", "total"), 0, MONEY)


def _checkout(p: Properties) -> Fields:
    step = number(p, "step", 1, 100)
    return _put(_cart(p), step=None if step is None else int(step), value=_value(p))


def _order(p: Properties) -> Fields:
    return _put(_cart(p), order_id=first_id(p, ("order_id", "transaction_id")), value=_value(p))


def _offer(p: Properties) -> Fields:
    decision, offer = first_id(p, ("decision_id",)), first_id(p, ("offer_id", "promotion_id"))
    token = p.get("token")
    if token is not None and (not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN):
        raise refuse("properties.token", token, "the token of an item")
    return _put({}, decision_id=decision, offer_id=offer, token=token)


READERS: Final[dict[str, tuple[str, Callable[[Properties], Fields]]]] = {
    "pageviewed": ("page", _page), "page": ("page", _page), "pageview": ("page", _page),
    "screenviewed": ("page", _page), "screen": ("page", _page), "screenview": ("page", _page),
    "scrolldepth": ("scroll", _scroll), "scroll": ("scroll", _scroll),
    "heartbeat": ("heartbeat", _heartbeat), "pageping": ("heartbeat", _page_ping),
    "userengagement": ("heartbeat", _heartbeat),
    "hover": ("hover", _hover), "clicked": ("click", _click), "click": ("click", _click),
    "productviewed": ("product_viewed", _products), "viewitem": ("product_viewed", _products),
    "productadded": ("product_added", _products), "addtocart": ("product_added", _products),
    "productremoved": ("product_removed", _products), "removefromcart": ("product_removed", _products),
    "cartviewed": ("cart_viewed", _cart), "viewcart": ("cart_viewed", _cart),
    "checkoutstarted": ("checkout_started", _checkout), "begincheckout": ("checkout_started", _checkout),
    "ordercompleted": ("order_completed", _order), "purchase": ("order_completed", _order),
    "orderrefunded": ("order_refunded", _order), "refund": ("order_refunded", _order),
    "ordercancelled": ("order_cancelled", _order),
    "offerviewed": ("offer_viewed", _offer), "viewpromotion": ("offer_viewed", _offer),
    "offerclicked": ("offer_clicked", _offer), "selectpromotion": ("offer_clicked", _offer),
    "offerredeemed": ("offer_redeemed", _offer),
}  # fmt: skip
"""Event name, folded → kind of signal and the reader of its properties."""


def folded(name: str) -> str:
    """An event name without case, spaces and underscores.

    >>> folded("Add_To Cart")
    'addtocart'
    """
    return name.lower().replace(" ", "").replace("_", "")
