"""The features of a profile at one moment, in the order of the schema."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from engine.schema import DEVICES, NETWORKS, PROFILE_FEATURES, SYSTEMS
from engine.score import recency_score
from engine.session import GAP_MS, Session
from engine.track import (
    CLICK_HALF_LIFE_MS,
    DAY_MS,
    HEIGHT,
    HOVER_HALF_LIFE_MS,
    PAGE,
    PAST,
    SCROLL,
    STRIDE,
    Track,
    averaged,
)

PAGE_HALF_LIFE_MS: Final = 120_000
COMPLETE_SHARE: Final = 0.9
"""A page scrolled this far counts as read to its end."""
NAN: Final = math.nan
INDEX: Final = {name: i for i, name in enumerate(PROFILE_FEATURES)}


@dataclass(slots=True)
class Page:
    """What was seen of one page view."""

    t_ms: float
    height_px: float = 0.0
    px: float = 0.0
    share: float = 0.0
    time_s: float = 0.0
    increments_s: float = 0.0

    @property
    def seconds(self) -> float:
        return self.time_s + self.increments_s

    @property
    def depth_px(self) -> float:
        return self.px or self.share * self.height_px

    @property
    def depth_share(self) -> float:
        if self.share or not self.height_px:
            return self.share
        return min(1.0, self.px / self.height_px)


def pages_of(track: Track, since_ms: int) -> list[Page]:
    """The page views since `since_ms` with the scrolls and active time that fell on each, oldest first.

    Scrolls before any page view count for a page that began with them.
    """
    pages: list[Page] = []
    # Five numbers at a time off one iterator: slices of an array are arrays, and each costs more than all of this.
    numbers = iter(track.recent)
    page: Page | None = None
    # What was not given is NaN, which is greater than nothing and not equal to itself.
    for t_ms, kind, _, one, two in zip(*[numbers] * STRIDE, strict=True):
        if t_ms < since_ms:
            continue
        if page is None or kind == PAGE:
            page = Page(t_ms)
            pages.append(page)
        if kind == SCROLL:
            page.px = max(page.px, one)
            page.share = max(page.share, two)
        elif kind in (PAGE, HEIGHT):
            page.height_px = max(page.height_px, one)
        else:
            page.time_s = max(page.time_s, one)
            if two == two:  # noqa: PLR0124
                page.increments_s += two
    return pages


def cart_of(track: Track) -> tuple[dict[str, list[float]], int]:
    """The cart as `{product: [quantity, price]}` and the time of the first operation on it as it stands."""
    cart: dict[str, list[float]] = {}
    since_ms = 0
    for t_ms, _, product, quantity, price, listed in track.cart:
        was_empty = not cart
        if product:
            line = cart.setdefault(product, [0.0, price])
            line[0] += quantity
            line[1] = price or line[1]
            if line[0] <= 0:
                del cart[product]
        else:
            cart = {i: [q, p or cart.get(i, [0.0, 0.0])[1]] for i, q, p in listed if q > 0}
        if was_empty and cart:
            since_ms = t_ms
    return cart, since_ms


def current_session(track: Track, now_ms: int) -> Session | None:
    """The visit that is going on, if the last one has not ended by inactivity."""
    if track.sessions and now_ms - track.sessions[-1].end_ms <= GAP_MS:
        return track.sessions[-1]
    return None


def past_averages(track: Track, current: Session | None) -> tuple[list[float], int, int]:
    """Moving averages over the sessions before the current one, their number, and when the last ended."""
    past, n, end_ms = track.past, track.n_folded, track.past_end_ms
    for session in track.sessions:
        if session is not current:
            past, n, end_ms = averaged(past, n, session), n + 1, session.end_ms
    return past, n, end_ms


def carts_left(track: Track, current: Session | None) -> int:
    """In how many sessions before the current one a cart was left."""
    return track.n_carts_left + sum(session.left_cart for session in track.sessions if session is not current)


def bought(track: Track) -> tuple[int, float, int]:
    """Orders that stand (not cancelled, not wholly refunded), their net value, and when the last was made."""
    n, value, last_ms = 0, 0.0, 0
    for t_ms, amount, refunded, cancelled in track.orders.values():
        if t_ms is not None and not cancelled and (refunded == 0.0 or refunded < amount):
            n, value, last_ms = n + 1, value + amount - refunded, max(last_ms, t_ms)
    return n, value, last_ms


def worth_of(cart: dict[str, list[float]]) -> tuple[float, float]:
    """How many items are in a cart, and their value."""
    n = value = 0.0
    for quantity, price in cart.values():
        n += quantity
        value += quantity * price
    return n, value


def profile_features(track: Track, now_ms: int, cart: tuple[dict[str, list[float]], int] | None = None) -> list[float]:
    """One value for each of `PROFILE_FEATURES`, NaN where there is nothing to measure.

    `track` is a profile's view, `cart` its cart where that is known already; times in the future of `now_ms` count as
    now.
    """
    session = current_session(track, now_ms)
    px = share = px_max = share_max = page_s = page_avg_s = complete = depth = 0.0
    if session is not None:
        pages = pages_of(track, session.start_ms)
        if pages:
            px, share, page_avg_s, complete = _page_averages(pages)
            last = pages[-1]
            px_max, share_max, page_s = last.depth_px, last.depth_share, last.seconds
            depth = min(1.0, px_max / 1000.0) if px_max else share_max
    lines, cart_ms = cart_of(track) if cart is None else cart
    n_items, cart_value = worth_of(lines)
    past, n_past, past_end_ms = past_averages(track, session)
    n_bought, value, bought_ms = bought(track)
    s = session
    gap_ms = (s.start_ms if s else now_ms) - past_end_ms
    return [
        recency_score(now_ms - track.latest_ms) if track.latest_ms else 0.0,
        depth, px, share, px_max, share_max, complete, page_s, page_avg_s,
        s.time_s if s else 0.0,
        track.hover.at(now_ms, HOVER_HALF_LIFE_MS),
        float(s.n_clicks) if s else 0.0,
        track.clicks.at(now_ms, CLICK_HALF_LIFE_MS),
        s.n_clicks / max(1, s.n_pages) if s else 0.0,
        float(s.n_pages) if s else 0.0,
        float(len(s.products)) if s else 0.0,
        max(0, now_ms - s.start_ms) / 1000.0 if s else 0.0,
        cart_value, n_items,
        max(0, now_ms - cart_ms) / 1000.0 if lines else NAN,
        float(s.checkout_step) if s and track.checkout_ms > track.last_order_ms else 0.0,
        float(n_past + (1 if s else 0)),
        max(0, gap_ms) / DAY_MS if n_past else NAN,
        *(past if n_past else [NAN] * len(PAST)),
        float(carts_left(track, session)) if n_past else 0.0,
        float(n_bought), value,
        max(0, now_ms - bought_ms) / DAY_MS if n_bought else NAN,
        float(sum(map(len, track.served.values()))) if track.served else 0.0,
        float(sum(track.offer_clicks.values())) if track.offer_clicks else 0.0,
    ]  # fmt: skip


def _page_averages(pages: list[Page]) -> tuple[float, float, float, float]:
    last_ms = pages[-1].t_ms
    weight = px = share = seconds = 0.0
    complete = 0
    for page in pages:
        w = 2.0 ** ((page.t_ms - last_ms) / PAGE_HALF_LIFE_MS)
        weight += w
        px += w * page.depth_px
        share += w * page.depth_share
        seconds += w * page.seconds
        complete += page.depth_share >= COMPLETE_SHARE
    return px / weight, share / weight, seconds / weight, complete / len(pages)


def context_features(context: dict[str, Any], nearest_geofence_km: float) -> list[float]:
    """One value for each of `CONTEXT_FEATURES`."""
    hour, weekday = context.get("local_hour"), context.get("weekday")
    return [
        float(DEVICE_CODE.get(context.get("device", ""), 0)),
        float(SYSTEM_CODE.get(context.get("os", ""), 0)),
        float(NETWORK_CODE.get(context.get("network", ""), 0)),
        NAN if hour is None else float(hour),
        NAN if weekday is None else float(weekday),
        nearest_geofence_km,
    ]


DEVICE_CODE: Final = {name: i for i, name in enumerate(DEVICES)}
SYSTEM_CODE: Final = {name: i for i, name in enumerate(SYSTEMS)}
NETWORK_CODE: Final = {name: i for i, name in enumerate(NETWORKS)}
