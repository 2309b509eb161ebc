"""The feature schema: names, order, categories; its hash names the layout a model was trained on."""

from __future__ import annotations

import zlib
from hashlib import blake2b

PROFILE_FEATURES: tuple[str, ...] = (
    "recency", "depth", "scroll_px", "scroll_share", "scroll_px_max", "scroll_share_max",
    "scroll_completion_rate", "time_on_page_s", "time_on_page_avg_s", "session_time_s", "hover_s",
    "n_clicks", "clicks_decayed", "click_rate", "n_pages", "n_products_viewed", "session_age_s",
    "cart_value", "n_cart_items", "cart_age_s", "checkout_step",
    "n_sessions", "gap_days", "past_scroll_share", "past_time_s", "past_pages", "past_products",
    "past_clicks", "past_conversion_rate", "n_past_carts", "n_purchases", "purchase_value", "days_since_purchase",
    "n_offers_seen", "n_offer_clicks",
)  # fmt: skip
"""Read from the profile. Units in the names: `_s`, `_px`, `_share` (0–1), `n_`, `_days`; money in the book's currency.

`scroll_*` without `_max` and `*_avg_s` are averages over the pages of the session that halve in weight every 2 min;
`past_*` are moving averages over earlier sessions, `n_past_carts` counts those that left a cart; `*_decayed` and
`hover_s` are decayed sums.
"""

CONTEXT_FEATURES: tuple[str, ...] = (
    "device_code", "os_code", "network_code", "local_hour", "weekday", "nearest_geofence_km",
)  # fmt: skip
OFFER_FEATURES: tuple[str, ...] = ("offer_code", "offer_value", "offer_cost", "offer_seen")

MODEL_FEATURES: tuple[str, ...] = PROFILE_FEATURES + CONTEXT_FEATURES + OFFER_FEATURES
CATEGORICAL: tuple[str, ...] = ("device_code", "os_code", "network_code", "offer_code")
N_FEATURES = len(MODEL_FEATURES)

DEVICES: tuple[str, ...] = ("other", "mobile", "tablet", "desktop", "tv", "bot")
SYSTEMS: tuple[str, ...] = ("other", "ios", "android", "windows", "macos", "linux")
NETWORKS: tuple[str, ...] = ("unknown", "slow-2g", "2g", "3g", "4g", "5g", "wifi", "ethernet")
STAGES: tuple[str, ...] = ("new", "returning", "engaged", "cart", "checkout", "customer", "lapsing")

CONDITION_NUMBERS: frozenset[str] = frozenset(PROFILE_FEATURES) | {
    "score", "conversion", "churn", "local_hour", "nearest_geofence_km",
}  # fmt: skip
"""Numbers a segment or offer condition may compare."""
CONDITION_LABELS: dict[str, frozenset[str] | None] = {
    "stage": frozenset(STAGES),
    "device": frozenset(DEVICES),
    "os": frozenset(SYSTEMS),
    "network": frozenset(NETWORKS),
    "browser": None,
    "locale": None,
    "country": None,
    "cohort": None,
    "geofence": None,
    "weekday": frozenset({"mon", "tue", "wed", "thu", "fri", "sat", "sun"}),
    "placement": None,
}
"""Labels a condition may test with `in`/`not_in`, with their closed set of values where there is one.

`trait.<name>` is a label too, for any name.
"""

SCHEMA_VERSION = 1


def schema_hash() -> str:
    """Sixteen hex digits that change whenever a feature is added, moved or recoded."""
    text = "|".join((str(SCHEMA_VERSION), *MODEL_FEATURES, *CATEGORICAL, *DEVICES, *SYSTEMS, *NETWORKS))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def offer_code(offer: str | None) -> int:
    """The category of an offer in a model row: 0 for none, else 1–250 from its name."""
    return 0 if offer is None else 1 + zlib.crc32(offer.encode()) % 250
