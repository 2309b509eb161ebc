"""The hidden truth of the simulated shop: who would buy, with and without each offer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from engine.simulation.shopper import Shopper, State

OfferKind = Literal["shipping", "discount", "other"]
_DISCOUNT_WORDS = ("discount", "percent", "saving", "voucher", "coupon", "off")


@dataclass(frozen=True, slots=True)
class Temper:
    """One type of shopper in the sense of uplift modelling, and how it shows in behaviour.

    `depth` is the mean share of a page it reads, `dwell_s` the mean seconds on a product page, `hover_share`
    how often it hovers over product images; `add_logit` and `buy_logit` set how readily it fills a cart and
    pays; `matched` and `unmatched` are what an offer that suits its situation, or another, adds to the logit
    of paying.
    """

    name: str
    share: float
    depth: float
    dwell_s: float
    hover_share: float
    add_logit: float
    buy_logit: float
    matched: float
    unmatched: float


TEMPERS: tuple[Temper, ...] = (
    Temper("sure", 0.22, 0.60, 26.0, 0.20, -0.7, 2.5, 0.1, 0.05),
    Temper("persuadable", 0.30, 0.76, 50.0, 0.60, -1.0, -0.2, 2.4, 0.5),
    Temper("lost", 0.36, 0.36, 13.0, 0.10, -2.1, -2.4, 0.05, 0.0),
    Temper("sleeping", 0.12, 0.48, 20.0, 0.15, -1.0, 1.4, -1.5, -1.5),
)
"""Sure buyers pay anyway, persuadables if the right offer comes, lost causes never; offers put sleeping dogs off."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Every parameter of the world; an engine under test may not read it.

    logit p(purchase | cart) = intercept + buy_logit(type) + depth_weight·(depth − ½)
    + time_weight·(min(time, 120 s)/60 s − 1) + checkout_weight·[checkout begun] + past_weight·min(purchases, 3)
    − price_weight·(cart/100 − 1) − slow_weight·[slow network] + effect(type, offer, situation).

    An offer is *matched* where the seed says it works: free shipping on iOS once the checkout has begun, a
    discount on Android for somebody who has left a cart before. `intercept` is set so that 42 % of carts are
    abandoned when nobody sees an offer (held by a test within 2 points).
    """

    tempers: tuple[Temper, ...] = TEMPERS
    intercept: float = -0.95
    depth_weight: float = 1.6
    time_weight: float = 0.5
    checkout_weight: float = 0.6
    past_weight: float = 0.35
    price_weight: float = 0.3
    slow_weight: float = 0.4
    checkout_share: float = 0.45
    """Of those with a cart: how many begin the checkout before they make up their mind."""
    fleeting_share: float = 0.12
    """Pages with a scroll to the end and back that means nothing."""
    scroll_noise: float = 0.06
    """Standard deviation of a reported scroll share around the real one."""
    refund_share: float = 0.04
    bot_share: float = 0.02
    known_share: float = 0.45
    """Shoppers with an account; they sign in on some visits, on each of their devices."""
    second_device_share: float = 0.35
    no_consent_share: float = 0.03
    return_share: float = 0.5
    """After each visit: the chance of another one, about two days later."""
    max_visits: int = 6

    def temper(self, shopper: Shopper) -> Temper:
        """The hidden type of a shopper."""
        return self.tempers[shopper.temper]

    def matches(self, state: State, offer: str) -> bool:
        """Whether this offer suits the situation of this visit."""
        kind = offer_kind(offer)
        if kind == "shipping":
            return state.os == "ios" and state.checkout_step > 0
        return kind == "discount" and state.os == "android" and state.n_past_carts > 0

    def p_add(self, shopper: Shopper, state: State) -> float:
        """The chance that the product on the page now goes into the cart."""
        reading = self.depth_weight * (state.depth - 0.5) + 0.2 * (min(state.n_products, 5) - 2)
        return _logistic(self.temper(shopper).add_logit + reading + 0.2 * min(shopper.n_purchases, 3))

    def p_purchase(self, shopper: Shopper, state: State, offer: str | None) -> float:
        """The chance that a cart is paid for on this visit, had `offer` (or none) been shown."""
        temper = self.temper(shopper)
        z = self.intercept + temper.buy_logit
        z += self.depth_weight * (state.depth - 0.5)
        z += self.time_weight * (min(state.time_s, 120.0) / 60.0 - 1.0)
        z += self.checkout_weight * (state.checkout_step > 0)
        z += self.past_weight * min(state.n_past_purchases, 3)
        z -= self.price_weight * (state.cart_value / 100.0 - 1.0)
        z -= self.slow_weight * state.slow_network
        if offer is not None:
            z += temper.matched if self.matches(state, offer) else temper.unmatched
        return _logistic(z)

    def uplift(self, shopper: Shopper, state: State, offer: str) -> float:
        """What showing `offer` changes: p(offer) − p(none)."""
        return self.p_purchase(shopper, state, offer) - self.p_purchase(shopper, state, None)


def offer_kind(offer: str) -> OfferKind:
    """What an offer is, read from its name.

    >>> offer_kind("free_shipping"), offer_kind("discount_10"), offer_kind("gift")
    ('shipping', 'discount', 'other')
    """
    name = offer.lower()
    if "ship" in name or "delivery" in name:
        return "shipping"
    return "discount" if any(word in name for word in _DISCOUNT_WORDS) else "other"


def _logistic(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z))
