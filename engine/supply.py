"""What there was to offer when a decision was taken: budgets, products, what was seen and redeemed, and what QA forced.

It is read by the shard and recorded with the inputs, so that a replay needs neither ledger nor catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.catalogue import Product

IN_VIEW, IN_CART = "in_view", "in_cart"
SEEN, REDEEMED = 0, 1
"""Kinds of what was counted of an offer, and their places in `counted`."""
Charge = list[Any]
"""[account of the ledger, amount, epoch ms until which it may come back (0: it is spent)]."""


@dataclass(slots=True)
class Forced:
    """A decision for quality assurance, which counts nowhere: staged content shown, segments or an offer forced."""

    kind: str
    """`preview` or `qa`."""
    segments: list[str] | None = None
    offer: str | None = None


@dataclass(slots=True)
class Supply:
    """`budgets`: what is left by `campaign.offer`; `products`: facts by `in_view`, `in_cart` or product id.

    `margin` is that of the cart, else of the product in view; `counted` holds [times seen, times redeemed] by offer.
    """

    budgets: dict[str, float] = field(default_factory=dict)
    products: dict[str, Product] = field(default_factory=dict)
    margin: float | None = None
    counted: dict[str, list[list[int]]] = field(default_factory=dict)
    forced: Forced | None = None
    charges: list[Charge] = field(default_factory=list)
    """What this decision has taken from which account; an effect, and no input of `decide`."""

    def to_list(self) -> list[Any]:
        """The journal's form."""
        f = self.forced
        return [
            self.budgets, {name: list(product) for name, product in self.products.items()}, self.margin, self.counted,
            None if f is None else [f.kind, f.segments, f.offer], self.charges,
        ]  # fmt: skip

    def told(self) -> dict[str, Any]:
        """For people: what was left of budgets, which products, what was charged to which account."""
        return {
            "budgets": self.budgets,
            "products": {name: product._asdict() for name, product in self.products.items()},
            "charges": [{"account": account, "amount": amount} for account, amount, _ in self.charges],
        }

    @classmethod
    def from_list(cls, row: list[Any] | None) -> Supply | None:
        """Read `to_list` back; None stays None."""
        if row is None:
            return None
        budgets, products, margin, counted, forced, charges = row
        return cls(
            budgets, {name: Product(*product) for name, product in products.items()}, margin, counted,
            None if forced is None else Forced(*forced), charges,
        )  # fmt: skip


MARGIN, FORCED, CHARGES = 2, 4, 5
"""Where they stand in `Supply.to_list()`."""
