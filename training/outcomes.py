"""What bears on an example: orders and what became of them, other conversions, engagements, rewards. Sets of facts.

Nothing here depends on the order in which facts are read: an order stands or falls by all that is known of it, and an
example's label, value and engagement follow from the set of facts alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from training.as_served import Goal

ORDER_KINDS: Final = frozenset({"order_completed", "order_refunded", "order_cancelled"})
OFFER_KINDS: Final = frozenset({"offer_viewed", "offer_clicked", "offer_redeemed"})
SUCCESS_KINDS: Final = frozenset(
    {"order_completed", "product_added", "checkout_started", "product_viewed", "cart_viewed", "offer_clicked",
     "offer_redeemed", "click"}
)  # fmt: skip
"""Kinds that some campaign's conversion may be."""
CONVERSION: Final = "conversion"
"""The type of reward that is a label; other types show engagement."""

TAKEN_BACK_MS: Final = 7 * 24 * 3600 * 1000
"""How long a refund or cancellation is remembered whose order has not been heard of."""


@dataclass(slots=True)
class Event:
    """One signal that may bear on examples."""

    kind: str
    t_ms: int
    message: int
    track: str
    value: float | None = None
    order: str = ""
    decision: str | None = None
    offer: str | None = None
    no_training: bool = False

    def to_list(self) -> list[Any]:
        """The form in a saved state."""
        return [getattr(self, name) for name in self.__slots__]


@dataclass(slots=True)
class Order:
    """All that is known of one order, by the message that told it; `credited` names the examples it counts for."""

    completed: dict[int, list[Any]] = field(default_factory=dict)
    """message → [event time, value]."""
    refunded: dict[int, float | None] = field(default_factory=dict)
    """message → amount, None for all of it."""
    cancelled: list[int] = field(default_factory=list)
    credited: list[str] = field(default_factory=list)
    latest_ms: int = 0

    def add(self, event: Event) -> None:
        """Take a signal about this order in."""
        self.latest_ms = max(self.latest_ms, event.t_ms)
        if event.kind == "order_completed":
            self.completed[event.message] = [event.t_ms, event.value or 0.0]
        elif event.kind == "order_refunded":
            self.refunded[event.message] = event.value
        elif event.message not in self.cancelled:
            self.cancelled.append(event.message)

    @property
    def facts(self) -> list[str]:
        """A name for each thing that took something of it back."""
        return [f"x{m}" for m in (*self.refunded, *self.cancelled)]

    def may_matter(self, now_ms: int, span_ms: int) -> bool:
        """Whether it counts for something, or may yet: a refund is remembered for longer than its order is awaited."""
        return bool(self.credited) or self.latest_ms >= now_ms - (
            max(span_ms, TAKEN_BACK_MS) if self.facts else span_ms
        )

    def kept_share(self, value: float) -> float:
        """The share of so much money that stands: 0 if the order was cancelled or refunded wholly."""
        if self.cancelled or any(amount is None for amount in self.refunded.values()):
            return 0.0
        back = sum(amount for amount in self.refunded.values() if amount is not None)
        if not back:
            return 1.0
        return max(0.0, 1.0 - back / value) if value else 0.0

    def to_list(self) -> list[Any]:
        """The form in a saved state."""
        return [
            list(self.completed.items()), list(self.refunded.items()), self.cancelled, self.credited, self.latest_ms,
        ]  # fmt: skip

    @classmethod
    def from_list(cls, row: list[Any]) -> Order:
        """Read `to_list` back."""
        return cls(dict(row[0]), dict(row[1]), row[2], row[3], row[4])


@dataclass(slots=True, eq=False)
class Case:
    """An example that facts may still bear on: everything but the row, which the window holds."""

    key: str
    root: str
    t_ms: int
    due_ms: int
    goal: Goal
    cart: float
    offer: str | None
    facts: frozenset[str] = frozenset()
    orders: tuple[str, ...] = ()
    worth: float = 0.0
    """The best other conversion, or reward, in money."""
    converted: bool = False
    """A conversion other than an order, or a reward of that type."""
    engaged: bool = False
    matured: bool = False

    @property
    def revision(self) -> int:
        """Grows with every fact, the decision being the first and that its time is over another."""
        return 1 + len(self.facts) + self.matured

    def covers(self, t_ms: int) -> bool:
        """Whether an event of this time is inside the window of the goal."""
        return self.t_ms <= t_ms <= self.t_ms + self.goal.within_ms

    def reads(self, event: Event) -> tuple[bool, bool]:
        """(whether an event is the conversion that is waited for, whether it shows engagement with what was shown)."""
        by_id, same = event.decision == self.key, event.offer is not None and event.offer == self.offer
        succeeds = event.kind == self.goal.kind and (by_id or same or event.offer is None)
        return succeeds, event.kind in OFFER_KINDS and (by_id or same)

    def told(self, orders: dict[str, Order]) -> tuple[int, float, bool]:
        """(label, value, engaged) by all that is known."""
        if not self.orders:
            return int(self.converted), self.worth if self.converted else 0.0, self.engaged
        money, stands = 0.0, self.converted
        for name in sorted(self.orders):
            order = orders[name]
            # Only by what reached this example: another's word for the same order may be gone when it is looked at.
            value = max(float(worth) for m, (_, worth) in order.completed.items() if f"o{m}" in self.facts)
            share = order.kept_share(value)
            if share > 0.0:
                stands = True
                money += share * self.goal.value.amount(value)
        return int(stands), max(money, self.worth if self.converted else 0.0), self.engaged


def event_of(track: str, row: list[Any], *, no_training: bool) -> Event | None:
    """The event in a signal as it stands in the journal; None for a kind that bears on nothing."""
    kind, t_ms, message, fields = row
    if kind not in SUCCESS_KINDS and kind not in ORDER_KINDS and kind not in OFFER_KINDS:
        return None
    order = ""
    if kind in ORDER_KINDS:
        order = str(fields.get("order_id") or f"m:{message}")
    return Event(
        kind, t_ms, message, track, fields.get("value"), order, fields.get("decision_id"), fields.get("offer_id"),
        no_training,
    )  # fmt: skip
