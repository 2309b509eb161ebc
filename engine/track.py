"""A track: everything known through one identity, folded signal by signal, in any order, exactly once."""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Iterable
from typing import Any, Final

from engine.decay import DecayedSum
from engine.nothing import NO_ENTRIES, NO_PAST, NOTHING
from engine.offer_times import OfferTime, with_one
from engine.robots import is_robotic
from engine.seen import Seen
from engine.session import Session, add_to_sessions
from engine.signals import BEHAVIOURAL, Signal
from engine.stubs import NO_STUBS
from engine.track_form import fill, state_of

DAY_MS: Final = 24 * 3600 * 1000
LATE_MS: Final = DAY_MS
FOLD_MS: Final = LATE_MS + 31 * 60 * 1000
"""A session that ended this long before the latest event can no longer change; it joins the moving averages."""
DEDUP_MS: Final = DAY_MS
CLICK_HALF_LIFE_MS: Final = 120_000
HOVER_HALF_LIFE_MS: Final = 120_000
PAST_ALPHA: Final = 0.3
MAX_CLAIMS: Final = 32
MAX_RECENT, MAX_CART, MAX_ORDERS, MAX_TRAITS = 32, 100, 64, 64
PAST: Final = ("scroll_share", "time_s", "pages", "products", "clicks", "converted")

PAGE, HEIGHT, SCROLL, HEARTBEAT = 0, 1, 2, 3
STRIDE: Final = 5
"""Numbers to each recent signal: t_ms, kind, low 32 bits of its message, and two values, NaN where not given.

The values are (height_px, page key), (height_px, –), (px, share) and (active s on the page, active s more).
"""
NAN: Final = math.nan
CartOp = tuple[int, int, str, float, float, list[list[Any]]]
"""(t_ms, message, product, ±quantity, price, []) or (t_ms, message, "", 0, 0, [[product, quantity, price], …])."""


def product_key(text: str) -> int:
    """What is kept of a product's or page's name where the name itself is not needed."""
    return zlib.crc32(text.encode())


class Track:
    """The state of one identity. Verbs: fresh, observe, snapshot, restore; the rest reads.

    Aggregates are by event time and equal for any order of arrival of events up to 24 h late.
    """

    __slots__ = (
        "assignments",
        "bot",
        "cart",
        "checkout_ms",
        "claims",
        "clicks",
        "decisions",
        "generation",
        "groups",
        "homes",
        "hover",
        "id",
        "in_view",
        "last_order_ms",
        "latest_ms",
        "looked_ms",
        "members",
        "memberships",
        "moved_to",
        "n_carts_left",
        "n_folded",
        "n_late",
        "n_signals",
        "offer_clicks",
        "offer_times",
        "offer_views",
        "orders",
        "past",
        "past_end_ms",
        "pending_to",
        "precomputed",
        "recent",
        "root",
        "seen",
        "served",
        "sessions",
        "touched_ms",
        "traits",
    )  # fmt: skip

    def __init__(self, track_id: str) -> None:
        self.id = track_id
        # identity: where this track lives and what else lives with it
        self.root = track_id
        self.members: dict[str, int] = {}
        self.moved_to: str | None = None
        self.pending_to: str | None = None
        self.generation = 0
        # partitions that hold records of it from before it was here, and hashes of the users it was said to be of
        self.homes: list[int] = NOTHING
        self.claims: list[int] = NOTHING
        # once: message hash → receipt
        self.seen = Seen()
        # behaviour, by event time
        self.n_signals = 0
        self.n_late = 0
        self.bot = False
        self.latest_ms = 0
        self.touched_ms = 0
        self.sessions: list[Session] = []
        self.n_folded = 0
        self.n_carts_left = 0
        self.past = NO_PAST
        self.past_end_ms = 0
        self.recent = array("d")
        self.clicks = DecayedSum()
        self.hover = DecayedSum()
        self.cart: list[CartOp] = []
        self.checkout_ms = 0
        self.last_order_ms = 0
        self.orders: dict[str, list[Any]] = NO_ENTRIES
        self.offer_views: dict[str, int] = NO_ENTRIES
        self.offer_clicks: dict[str, int] = NO_ENTRIES
        # the product looked at last: [t_ms, message, product]
        self.in_view: list[Any] = NOTHING
        # offers seen and redeemed, once for each decision: [t_ms, kind, offer, decision]
        self.offer_times: list[OfferTime] = NOTHING
        self.traits: dict[str, list[Any]] = {}
        self.groups: dict[str, int] = NO_ENTRIES
        # what Kairos did
        self.memberships: dict[str, list[int]] = {}
        self.served: dict[str, array[int]] = {}
        self.decisions = NO_STUBS
        # when the row of this profile was last recorded, with a decision or for a visit without one
        self.looked_ms = 0
        self.assignments: dict[str, list[Any]] = {}
        # the last conversion probability computed: a cache, not part of the state
        self.precomputed: float | None = None

    @classmethod
    def fresh(cls, track_id: str) -> Track:
        """A track nothing is known of yet."""
        return cls(track_id)

    # -- observing -------------------------------------------------------------------------------------

    def is_duplicate(self, message: int, received_ms: int) -> bool:
        """Whether this message took effect on this track within the last 24 h of receipt."""
        seen = self.seen.received_ms(message)
        return seen is not None and received_ms - seen < DEDUP_MS

    def observe(self, signal: Signal, received_ms: int) -> bool:
        """Fold one signal in; False when it is a duplicate and changes nothing."""
        if self.is_duplicate(signal.message, received_ms):
            return False
        self._remember(signal.message, received_ms)
        self.n_signals += 1
        kind, t_ms = signal.kind, signal.t_ms
        if kind in BEHAVIOURAL:
            if t_ms < self.latest_ms - LATE_MS:
                self.n_late += 1
            else:
                self._behave(signal)
        if kind.startswith("order_"):
            self._order(signal)
        elif kind in ("identify", "group"):
            self._describe(signal)
        elif kind.startswith("offer_"):
            offer = signal.fields.get("offer_id")
            if offer is not None and kind == "offer_viewed":
                self.offer_views = {**self.offer_views, offer: self.offer_views.get(offer, 0) + 1}
            elif offer is not None and kind == "offer_clicked":
                self.offer_clicks = {**self.offer_clicks, offer: self.offer_clicks.get(offer, 0) + 1}
            if offer is not None and kind != "offer_clicked":
                self._count_offer(offer, signal)
        return True

    def _count_offer(self, offer: str, signal: Signal) -> None:
        # Seen or redeemed again from the same decision is the same time; the earliest is kept, whatever the order.
        decision = signal.fields.get("decision_id") or ""
        row = [signal.t_ms, int(signal.kind == "offer_redeemed"), offer, decision]
        self.offer_times = with_one(self.offer_times, row)

    def _remember(self, message: int, received_ms: int) -> None:
        self.seen.forget(received_ms - DEDUP_MS)
        self.seen.add(message, received_ms)
        self.touched_ms = max(self.touched_ms, received_ms)

    def _behave(self, signal: Signal) -> None:
        kind, t_ms, fields = signal.kind, signal.t_ms, signal.fields
        page_key = product_key(fields["url"]) if "url" in fields else 0
        items = fields.get("items") or ()
        products = [product_key(str(item["id"])) for item in items] if kind == "product_viewed" else []
        last = self.sessions[-1] if self.sessions else None
        if last is None or not last.start_ms <= t_ms <= last.end_ms + 30 * 60 * 1000:
            last = add_to_sessions(self.sessions, Session(t_ms, t_ms))
        last.observe(signal, page_key, products)
        if products:
            viewed = [t_ms, signal.message, str(list(items)[-1]["id"])]
            if not self.in_view or self.in_view[:2] < viewed[:2]:
                self.in_view = viewed
        self.latest_ms = max(self.latest_ms, t_ms)
        if kind == "page":
            self._recall(t_ms, PAGE, signal.message, fields.get("height_px"), page_key)
        elif kind == "scroll":
            self._recall(t_ms, SCROLL, signal.message, fields.get("px"), fields.get("share"))
            if fields.get("height_px") is not None:
                self._recall(t_ms, HEIGHT, signal.message, fields["height_px"], None)
        elif kind == "heartbeat":
            self._recall(t_ms, HEARTBEAT, signal.message, fields.get("time_s"), fields.get("increment_s"))
        elif kind == "click":
            self.clicks.add(1.0, t_ms, CLICK_HALF_LIFE_MS)
        elif kind == "hover":
            self.hover.add((fields.get("ms") or 0.0) / 1000.0, t_ms, HOVER_HALF_LIFE_MS)
        elif kind in ("product_added", "product_removed", "cart_viewed", "checkout_started"):
            self._cart(signal)
        self._fold_past()

    def _recall(self, t_ms: int, kind: int, message: int, one: float | None, two: float | None) -> None:
        # By event time; of the same millisecond the page view comes first, since what happens on it follows.
        recent, low = self.recent, message & 0xFFFFFFFF
        at = len(recent)
        if at and recent[-STRIDE] >= t_ms:
            place = (t_ms, kind != PAGE, low, kind)
            while at and (recent[at - 5], recent[at - 4] != PAGE, recent[at - 3], recent[at - 4]) > place:
                at -= STRIDE
        values = (NAN if one is None else one, NAN if two is None else two)
        recent[at:at] = array("d", (t_ms, kind, low, *values))
        if len(recent) > MAX_RECENT * STRIDE:
            del recent[:STRIDE]

    def _cart(self, signal: Signal) -> None:
        kind, t_ms, message = signal.kind, signal.t_ms, signal.message
        if kind == "checkout_started":
            self.checkout_ms = max(self.checkout_ms, t_ms)
        if t_ms <= self.last_order_ms:
            return
        items = signal.fields.get("items") or []
        if kind in ("product_added", "product_removed"):
            sign = 1.0 if kind == "product_added" else -1.0
            self.cart.extend(
                (t_ms, message, str(i["id"]), sign * (i.get("quantity") or 1), i.get("price") or 0.0, []) for i in items
            )
        elif items:
            listed = [[str(i["id"]), float(i.get("quantity") or 1), i.get("price") or 0.0] for i in items]
            self.cart.append((t_ms, message, "", 0.0, 0.0, listed))
        if len(self.cart) > 1:
            self.cart.sort(key=lambda op: op[:3])
            del self.cart[:-MAX_CART]

    def _order(self, signal: Signal) -> None:
        fields = signal.fields
        order_id = str(fields.get("order_id") or signal.message)
        if self.orders is NO_ENTRIES:
            self.orders = {}
        order = self.orders.setdefault(order_id, [None, 0.0, 0.0, False])
        if signal.kind == "order_completed":
            order[0] = signal.t_ms if order[0] is None else min(order[0], signal.t_ms)
            order[1] = max(order[1], fields.get("value") or 0.0)
            if signal.t_ms > self.last_order_ms:
                self.last_order_ms = signal.t_ms
                self.cart = [op for op in self.cart if op[0] > signal.t_ms]
        elif signal.kind == "order_refunded":
            order[2] += fields["value"] if fields.get("value") is not None else float("inf")
        else:
            order[3] = True
        while len(self.orders) > MAX_ORDERS:
            del self.orders[min(self.orders, key=lambda key: (self.orders[key][0] or 0, key))]

    def _describe(self, signal: Signal) -> None:
        for name, value in (signal.fields.get("traits") or {}).items():
            stamp = [value, signal.t_ms, signal.message]
            known = self.traits.get(name)
            if (known is None and len(self.traits) < MAX_TRAITS) or (known is not None and known[1:] < stamp[1:]):
                self.traits[name] = stamp
        if signal.kind == "group" and signal.fields.get("group_id"):
            group = str(signal.fields["group_id"])
            if group in self.groups or len(self.groups) < MAX_TRAITS:
                self.groups = {**self.groups, group: max(self.groups.get(group, 0), signal.t_ms)}

    def _fold_past(self) -> None:
        while len(self.sessions) > 1 and self.sessions[0].end_ms < self.latest_ms - FOLD_MS:
            session = self.sessions.pop(0)
            self.bot |= is_robotic(session)
            self.past = averaged(self.past, self.n_folded, session)
            self.n_folded += 1
            self.n_carts_left += session.left_cart
            self.past_end_ms = session.end_ms

    # -- reading ---------------------------------------------------------------------------------------

    @property
    def is_bot(self) -> bool:
        """Marked as a bot by an agent, or behaving like one."""
        return self.bot or any(map(is_robotic, self.sessions))

    @property
    def n_sessions(self) -> int:
        """Sessions ever seen, the current one included."""
        return self.n_folded + len(self.sessions)

    # -- snapshot --------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """The whole state as plain lists, bit for bit."""
        return state_of(self)

    @classmethod
    def restore(cls, state: list[Any]) -> Track:
        """Rebuild from `snapshot()`."""
        track = cls(state[1])
        fill(track, state)
        return track


def joined_recent(tracks: Iterable[Track]) -> array[float]:
    """The latest signals of several tracks together, in the order of one."""
    rows = [t.recent[i : i + STRIDE] for t in tracks for i in range(0, len(t.recent), STRIDE)]
    rows.sort(key=lambda row: (row[0], row[1] != PAGE, row[2], row[1]))
    joined = array("d")
    for row in rows[-MAX_RECENT:]:
        joined.extend(row)
    return joined


def averaged(past: list[float], n_before: int, session: Session) -> list[float]:
    """The moving averages over sessions after one more: each new session weighs `PAST_ALPHA`, the first all."""
    row = (
        session.scroll_share, session.time_s, float(session.n_pages), float(len(session.products)),
        float(session.n_clicks), 1.0 if session.n_orders else 0.0,
    )  # fmt: skip
    if n_before == 0:
        return list(row)
    return [old + PAST_ALPHA * (new - old) for old, new in zip(past, row, strict=True)]
