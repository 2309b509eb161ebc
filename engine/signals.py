"""A signal: one thing observed about a visitor, already in Kairos's own names and units."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Kind = Literal[
    "page", "scroll", "heartbeat", "hover", "click",
    "product_viewed", "product_added", "product_removed", "cart_viewed", "checkout_started",
    "order_completed", "order_refunded", "order_cancelled",
    "offer_viewed", "offer_clicked", "offer_redeemed",
    "identify", "group", "custom",
]  # fmt: skip

BEHAVIOURAL: frozenset[str] = frozenset(
    {"page", "scroll", "heartbeat", "hover", "click", "product_viewed", "product_added", "product_removed",
     "cart_viewed", "checkout_started", "order_completed", "offer_viewed", "offer_clicked"}
)  # fmt: skip
"""Kinds that show the visitor present: they keep a session alive and feed the recency score."""


class Signal(NamedTuple):
    """One observation.

    `t_ms` is the event's own time (epoch ms, skew corrected), `message` the keyed 64-bit hash of its
    messageId, `fields` the properties understood, under canonical names: px, share, time_s, items, …; under
    `properties` what is kept without being understood.
    """

    kind: str
    t_ms: int
    message: int
    fields: dict[str, Any]

    def to_list(self) -> list[Any]:
        """The form on the wire and in the journal."""
        return list(self)

    @classmethod
    def from_list(cls, row: list[Any]) -> Signal:
        """Read `to_list` back."""
        return cls._make(row)
