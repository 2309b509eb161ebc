"""One visit: an interval of event time with aggregates that merge in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.signals import Signal

GAP_MS = 30 * 60 * 1000
"""Inactivity that ends a session: a signal more than this after the last one begins the next."""
MAX_PRODUCTS = 16
MAX_PAGES = 256


@dataclass(slots=True)
class Session:
    """Counts, sums and maxima of one visit; `pages` maps a page key to its longest reported active time."""

    start_ms: int
    end_ms: int
    n_signals: int = 0
    n_pages: int = 0
    n_clicks: int = 0
    n_product_views: int = 0
    n_adds: int = 0
    n_orders: int = 0
    checkout_step: int = 0
    scroll_px: float = 0.0
    scroll_share: float = 0.0
    active_s: float = 0.0
    pages: dict[int, float] = field(default_factory=dict)
    products: list[int] = field(default_factory=list)
    n_hovers: int = 0

    def observe(self, signal: Signal, page_key: int, product_keys: list[int]) -> None:
        """Fold one signal of this visit in."""
        kind, fields = signal.kind, signal.fields
        self.start_ms, self.end_ms = min(self.start_ms, signal.t_ms), max(self.end_ms, signal.t_ms)
        self.n_signals += 1
        if kind == "page":
            self.n_pages += 1
        elif kind == "scroll":
            self.scroll_px = max(self.scroll_px, fields.get("px") or 0.0)
            self.scroll_share = max(self.scroll_share, fields.get("share") or 0.0)
        elif kind == "heartbeat":
            self.active_s += fields.get("increment_s") or 0.0
            if "time_s" in fields and (page_key in self.pages or len(self.pages) < MAX_PAGES):
                self.pages[page_key] = max(self.pages.get(page_key, 0.0), fields["time_s"])
        elif kind == "click":
            self.n_clicks += 1
        elif kind == "hover":
            self.n_hovers += 1
        elif kind == "product_viewed":
            self.n_product_views += 1
        elif kind == "product_added":
            self.n_adds += 1
        elif kind == "checkout_started":
            self.checkout_step = max(self.checkout_step, int(fields.get("step") or 1))
        elif kind == "order_completed":
            self.n_orders += 1
        if product_keys:
            self._add_products(product_keys)

    def _add_products(self, keys: list[int]) -> None:
        # The smallest hashes are kept, so that the set does not depend on the order of arrival.
        self.products = sorted({*self.products, *keys})[:MAX_PRODUCTS]

    def absorb(self, other: Session) -> None:
        """Merge another interval of the same visit in: commutative and associative."""
        self.start_ms, self.end_ms = min(self.start_ms, other.start_ms), max(self.end_ms, other.end_ms)
        self.n_signals += other.n_signals
        self.n_pages += other.n_pages
        self.n_clicks += other.n_clicks
        self.n_product_views += other.n_product_views
        self.n_adds += other.n_adds
        self.n_orders += other.n_orders
        self.n_hovers += other.n_hovers
        self.checkout_step = max(self.checkout_step, other.checkout_step)
        self.scroll_px = max(self.scroll_px, other.scroll_px)
        self.scroll_share = max(self.scroll_share, other.scroll_share)
        self.active_s += other.active_s
        for key, seconds in other.pages.items():
            self.pages[key] = max(self.pages.get(key, 0.0), seconds)
        self._add_products(other.products)

    @property
    def time_s(self) -> float:
        """Active seconds: increments, and for each page the longest time reported."""
        return self.active_s + sum(self.pages.values())

    @property
    def left_cart(self) -> bool:
        """Whether something was put into the cart on this visit, and nothing was bought."""
        return self.n_adds > 0 and self.n_orders == 0

    def copy(self) -> Session:
        """An independent copy, for views that merge tracks."""
        return Session.from_list(self.to_list())

    def to_list(self) -> list[Any]:
        """The form in a snapshot."""
        return [
            self.start_ms, self.end_ms, self.n_signals, self.n_pages, self.n_clicks, self.n_product_views,
            self.n_adds, self.n_orders, self.checkout_step, self.scroll_px, self.scroll_share, self.active_s,
            [[k, v] for k, v in self.pages.items()], list(self.products), self.n_hovers,
        ]  # fmt: skip

    @classmethod
    def from_list(cls, row: list[Any]) -> Session:
        """Read `to_list` back."""
        session = cls(*row[:12])
        session.pages, session.products = {int(k): v for k, v in row[12]}, list(row[13])
        # Snapshots written before hovers were counted end here.
        session.n_hovers = row[14] if len(row) > 14 else 0
        return session


def add_to_sessions(sessions: list[Session], new: Session) -> Session:
    """Put `new` among disjoint sessions ordered by start, joining all it lies within a gap of; return the joined."""
    low = len(sessions)
    while low and sessions[low - 1].end_ms + GAP_MS >= new.start_ms:
        low -= 1
    high = low
    while high < len(sessions) and sessions[high].start_ms - GAP_MS <= new.end_ms:
        high += 1
    touched = sessions[low:high]
    if not touched:
        sessions.insert(low, new)
        return new
    joined = touched[0]
    for other in touched[1:]:
        joined.absorb(other)
    joined.absorb(new)
    sessions[low:high] = [joined]
    return joined
