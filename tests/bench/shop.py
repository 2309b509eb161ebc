"""The reference case that every competitor is given: the same visitors, requests, three offers and LightGBM model."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import numpy as np
import orjson

from engine.schema import MODEL_FEATURES, offer_code, schema_hash
from training.fit import Model, fit
from training.table import Table

AGENT: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Mobile/15E148 Safari/604.1"
)
CONTEXT: Final = {
    "userAgent": AGENT,
    "locale": "de-DE",
    "timezone": "Europe/Berlin",
    "network": {"effectiveType": "4g"},
    "page": {"url": "https://shop.example/shoes"},
}
OFFERS: Final[dict[str, dict[str, Any]]] = {
    "free_shipping": {"value": 21.0, "cost": 3.9, "headline": "Free shipping if you finish today"},
    "four_off": {"value": 21.0, "cost": 4.0, "headline": "Four euros off your cart"},
    "reminder": {"value": 21.0, "cost": 0.0, "headline": "Your cart is saved for you"},
}
BOOK: Final = """\
timezone: UTC
currency: EUR
campaigns:
  bench:
    placements: [product_page]
    conversion: {event: Order Completed, within: 5m, value: revenue}
    segments:
      deep: {all: [{feature: scroll_share, above: 0.7, leave_below: 0.6}], hold: 30s}
    offers:
""" + "".join(
    f"      {name}:\n        content: {{headline: {offer['headline']}}}\n"
    f"        value: {offer['value']}\n        cost: {offer['cost']}\n"
    for name, offer in OFFERS.items()
)
N_WARM: Final = 4_000
"""Visitors known and in memory when the measuring begins: enough that none is asked about hundreds of times."""


def visitors(n: int = N_WARM, first: int = 0) -> list[str]:
    """Anonymous ids as long as real ones, the `first`th to the one before the `n`th."""
    return [f"8f14e45f-ceea-467f-a0e6-{i:012d}" for i in range(first, n)]


def decide_bodies(names: list[str]) -> list[bytes]:
    """The reference decide request, one a visitor: a phone's context, no signals, no explanation."""
    return [
        orjson.dumps(
            {"anonymousId": one, "placement": "product_page", "limit": 1, "explain": False, "context": CONTEXT}
        )
        for one in names
    ]


def visit(name: str, run: str = "w") -> list[dict[str, Any]]:
    """What a warm visitor has done: a page read down to 80 %, two products looked at, one in the cart."""
    url = "https://shop.example/shoes"
    steps: list[tuple[str, dict[str, Any]]] = [
        ("Page Viewed", {"url": url, "height_px": 3200}),
        ("Scroll Depth", {"scroll_px": 900, "scroll_share": 0.28}),
        ("Product Viewed", {"product_id": "p1", "price": 79.0, "currency": "EUR"}),
        ("Heartbeat", {"time_on_page_s": 10}),
        ("Scroll Depth", {"scroll_px": 2560, "scroll_share": 0.8}),
        ("Product Viewed", {"product_id": "p2", "price": 49.0, "currency": "EUR"}),
        ("Product Added", {"product_id": "p1", "price": 79.0, "quantity": 1, "currency": "EUR"}),
        ("Heartbeat", {"time_on_page_s": 35}),
    ]
    return [
        {
            "type": "track",
            "anonymousId": name,
            "messageId": f"{run}-{name}-{i}",
            "event": event,
            "properties": properties,
        }
        for i, (event, properties) in enumerate(steps)
    ]


def model() -> Model:
    """A LightGBM model over all features of the engine with Kairos's default parameters; the same bytes every time."""
    return fit(table(), seed=5)


def table() -> Table:
    """Rows of every feature of the engine, and who converted."""
    rng = np.random.default_rng(11)
    n = 6_000
    x = np.abs(rng.normal(scale=2.0, size=(n, len(MODEL_FEATURES))))
    at = {name: i for i, name in enumerate(MODEL_FEATURES)}
    x[rng.random(x.shape) < 0.15] = np.nan
    for name, top in (("device_code", 4), ("os_code", 4), ("network_code", 6)):
        x[:, at[name]] = rng.integers(1, top, n)
    offers = [0, *(offer_code(name) for name in OFFERS)]
    offer = rng.integers(0, len(offers), n)
    x[:, at["offer_code"]] = np.array(offers, dtype=float)[offer]
    scroll, cart = rng.random(n), rng.integers(0, 3, n).astype(float)
    x[:, at["scroll_share"]], x[:, at["n_cart_items"]] = scroll, cart
    z = -2.2 + 1.2 * scroll + 0.7 * cart + 0.4 * (offer > 0) - 0.1 * np.nan_to_num(x[:, at["gap_days"]])
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(-z))).astype(np.float64)
    categorical = ("device_code", "os_code", "network_code", "offer_code")
    return Table(MODEL_FEATURES, x, y, schema_hash(), servable=True, categorical=categorical)


def publish(one: Model, store: str) -> str:
    """Put the model in force in a running Kairos; returns its version."""
    from serving.cli.train import put_in_force

    asyncio.run(put_in_force(one, store))
    return one.card.version
