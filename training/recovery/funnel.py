"""The funnel of every session, read from its events alone: view → cart → at risk → checkout → purchase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

DEEP_SHARE: Final = 0.60
LONG_S: Final = 30.0


@dataclass(slots=True)
class Session:
    """How far one session came.

    A cart is *at risk* as the seed says: its visitor is past 60 % of a page and more than 30 s on it, with something in
    the cart, and has not bought. It counts where that is so when the shop asks what to show: what happens afterwards,
    which the answer may change, has no say in who is counted.
    """

    week: int
    viewed: bool = False
    cart: bool = False
    at_risk: bool = False
    checkout: bool = False
    purchase: bool = False
    offers: list[str] = field(default_factory=list)
    revenue: float = 0.0
    cost: float = 0.0
    mobile: bool = False
    _hesitates: bool = False
    _deep: float = 0.0
    _long_s: float = 0.0

    def see(self, event: Mapping[str, Any]) -> None:
        """Take in the next event of the session."""
        name, properties = event.get("event"), event.get("properties") or {}
        if event["type"] == "page":
            self._deep = self._long_s = 0.0
        elif name == "Scroll Depth":
            self._deep = max(self._deep, properties["scroll_share"])
        elif name == "Heartbeat":
            self._long_s = max(self._long_s, properties["time_on_page_s"])
        elif name == "Product Viewed":
            self.viewed = True
        elif name == "Product Added":
            self.cart = True
        elif name == "Checkout Started":
            self.checkout = True
        elif name == "Order Completed":
            self.purchase, self.revenue = True, float(properties["revenue"])
        if self.cart and not self.purchase and self._deep > DEEP_SHARE and self._long_s > LONG_S:
            self._hesitates = True

    def ask(self, offer: str | None) -> None:
        """The shop asked what to show, and was answered."""
        self.at_risk |= self._hesitates
        if offer is not None:
            self.offers.append(offer)

    @property
    def recovered(self) -> bool:
        """A cart at risk that was paid for."""
        return self.at_risk and self.purchase


STEPS: Final = ("viewed", "cart", "at_risk", "checkout", "purchase")


def counts(sessions: list[Session]) -> dict[str, int]:
    """How many sessions came to each step of the funnel, and how many carts at risk were recovered."""
    found = {step: sum(bool(getattr(one, step)) for one in sessions) for step in STEPS}
    found["recovered"] = sum(one.recovered for one in sessions)
    found["at_risk_checkout"] = sum(one.at_risk and one.checkout for one in sessions)
    return found
