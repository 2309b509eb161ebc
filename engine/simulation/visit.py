"""One visit, step by step: pages, scrolling, hovering, the cart, the checkout, and what offers do to it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np

from engine.simulation.shopper import Shopper, State, context_of
from engine.simulation.steps import Ask, Reply, Send, Shown, Step, iso
from engine.simulation.truth import Truth

Steps = Generator[Step, Reply, None]
SHOP = "https://shop.example"
CURRENCY = "EUR"
HEARTBEAT_S = 10.0


class Visit:
    """Walks one shopper through the shop; `steps()` is a generator that waits for an answer after each `Ask`."""

    def __init__(self, truth: Truth, shopper: Shopper, number: int, *, start_ms: int, rng: np.random.Generator) -> None:
        self._truth, self._shopper, self._number, self._rng = truth, shopper, number, rng
        self._temper = truth.temper(shopper)
        self._device = shopper.devices[int(rng.integers(len(shopper.devices)))]
        self._prefix = f"{shopper.name}-{number}"
        self._n_sent = self._n_pages = 0
        self._url = SHOP + "/"
        self._shown: Shown | None = None
        self.t_ms = start_ms
        self.refund_ms: int | None = None
        self._order: dict[str, Any] = {}
        slow = self._device.network in ("3g", "2g", "slow-2g")
        self.state = State(self._device.os, slow, shopper.n_carts_left, shopper.n_purchases)

    def steps(self) -> Steps:
        """The whole visit, in order of time."""
        if self._shopper.bot:
            yield from self._crawl()
            return
        yield from self._home()
        for _ in range(1 + int(self._rng.poisson(1.5 + 2.0 * self._temper.depth))):
            yield from self._product()
        if self.state.cart:
            yield from self._cart()

    def refund(self) -> Send:
        """The event by which the order of this visit is paid back."""
        return self._track("Order Refunded", {k: self._order[k] for k in ("order_id", "revenue", "currency")})

    def _crawl(self) -> Steps:
        for number in range(int(self._rng.integers(3, 12))):
            yield self._page(f"/p/{number}", "A product", 2000)
            self._wait(float(self._rng.uniform(0.2, 1.0)))

    def _home(self) -> Steps:
        yield self._page("/", "Home", 2400)
        signs_in = self._shopper.user_id is not None and self._rng.random() < 0.6
        if signs_in and self._device.anonymous_id not in self._shopper.signed_in:
            self._wait(float(self._rng.uniform(1, 4)))
            self._shopper.signed_in.add(self._device.anonymous_id)
            yield self._event({"type": "identify", "traits": {"member": self._shopper.member}})
        yield from self._read(2400, float(self._rng.uniform(0.1, 0.5)), float(self._rng.uniform(2, 8)))

    def _product(self) -> Steps:
        product, price, height = self._draw_product()
        yield self._page(f"/p/{product}", f"Product {product}", height)
        item = {"product_id": product, "price": price, "quantity": 1, "currency": CURRENCY}
        yield self._track("Product Viewed", item)
        depth = float(self._rng.beta(6 * self._temper.depth, 6 * (1 - self._temper.depth)))
        dwell_s = float(self._rng.gamma(2.5, self._temper.dwell_s / 2.5))
        state = self.state
        state.depth = (state.depth * state.n_products + depth) / (state.n_products + 1)
        state.n_products += 1
        yield from self._read(height, depth, dwell_s)
        if self._rng.random() < self._temper.hover_share:
            hover_ms = int(self._rng.gamma(2, 700))
            self._wait(hover_ms / 1000)
            yield self._track("Hover", {"hover_ms": hover_ms, "target": "product-image"})
        if self._rng.random() < 0.35:
            yield self._track("Clicked", {"target": "product-gallery"})
        yield from self._ask("product_page")
        if self._rng.random() < self._truth.p_add(self._shopper, state) and product not in state.cart:
            self._wait(float(self._rng.uniform(1, 6)))
            state.cart[product] = (price, 1)
            yield self._track("Product Added", item)

    def _cart(self) -> Steps:
        state, rng = self.state, self._rng
        yield self._page("/cart", "Cart", 1400)
        yield self._track("Cart Viewed", {"products": self._items(), "currency": CURRENCY})
        yield from self._read(1400, float(rng.uniform(0.4, 1.0)), float(rng.gamma(2, 5)))
        if rng.random() < self._truth.checkout_share:
            yield self._checkout(1)
        # The die falls before the question, so that two worlds that differ in one offer differ in nothing else.
        die = float(rng.random())
        yield from self._ask("cart_page")
        if die < self._truth.p_purchase(self._shopper, state, state.offer):
            yield from self._buy()
        else:
            yield from self._leave()

    def _buy(self) -> Steps:
        state = self.state
        for step in range(state.checkout_step + 1, 4):
            self._wait(float(self._rng.uniform(8, 35)))
            yield self._checkout(step)
        self._wait(float(self._rng.uniform(5, 25)))
        self._order = {
            "order_id": f"{self._prefix}-o", "revenue": round(state.cart_value, 2), "currency": CURRENCY,
            "products": self._items(),
        }  # fmt: skip
        if self._shown is not None:
            yield self._track("Offer Redeemed", self._offer_fields(self._shown))
        yield self._track("Order Completed", self._order)
        self._shopper.n_purchases += 1
        if self._rng.random() < self._truth.refund_share:
            self.refund_ms = self.t_ms + int(self._rng.uniform(1, 3) * 86_400_000)

    def _leave(self) -> Steps:
        self._shopper.n_carts_left += 1
        yield from self._read(1400, 0.3, float(self._rng.gamma(2, 8)), fleeting=False)

    def _checkout(self, step: int) -> Send:
        self.state.checkout_step = step
        fields = {"step": step, "value": round(self.state.cart_value, 2), "currency": CURRENCY}
        return self._track("Checkout Started", {**fields, "products": self._items()})

    def _ask(self, placement: str) -> Steps:
        self._wait(float(self._rng.uniform(0.3, 3)))
        request: dict[str, Any] = {**self._identity(), "placement": placement}
        request["context"] = context_of(self._shopper, self._device, self._url)
        request["pageViewId"] = f"{self._prefix}-p{self._n_pages}"
        so_far = replace(self.state, cart=dict(self.state.cart))
        reply = yield Ask(self.t_ms, self._number, request, self._shopper, so_far)
        clicks = self._rng.random() < 0.12
        if reply is None:
            return
        self._shown = reply if isinstance(reply, Shown) else Shown(reply)
        self.state.offer = self._shown.offer
        self._wait(0.2)
        yield self._track("Offer Viewed", self._offer_fields(self._shown))
        if clicks:
            yield self._track("Offer Clicked", self._offer_fields(self._shown))

    def _read(self, height_px: int, depth: float, dwell_s: float, *, fleeting: bool = True) -> Steps:
        """Scroll down to `depth` in a few moves with noise, a heartbeat every ten seconds."""
        rng, spent, beat = self._rng, 0.0, HEARTBEAT_S
        if fleeting and rng.random() < self._truth.fleeting_share:
            yield self._scroll(height_px, float(rng.uniform(0.85, 1.0)))
            self._wait(0.4)
            yield self._scroll(height_px, 0.05)
        moves = 1 + int(rng.integers(1, 4))
        for move in range(1, moves + 1):
            pause = dwell_s / moves
            while spent + pause >= beat:
                self._wait(max(0.0, beat - spent))
                pause, spent, beat = pause - max(0.0, beat - spent), beat, beat + HEARTBEAT_S
                yield self._track("Heartbeat", {"time_on_page_s": round(spent, 1)})
            self._wait(pause)
            spent += pause
            share = depth * move / moves + float(rng.normal(0, self._truth.scroll_noise))
            yield self._scroll(height_px, min(1.0, max(0.0, share)))
        self.state.time_s += dwell_s
        yield self._track("Heartbeat", {"time_on_page_s": round(dwell_s, 1)})

    def _scroll(self, height_px: int, share: float) -> Send:
        return self._track("Scroll Depth", {"scroll_px": round(share * height_px), "scroll_share": round(share, 4)})

    def _page(self, path: str, title: str, height_px: int) -> Send:
        self._wait(float(self._rng.uniform(0.5, 3)))
        self._n_pages += 1
        self._url = SHOP + path
        return self._event({"type": "page", "name": title, "properties": {"title": title, "height_px": height_px}})

    def _track(self, name: str, properties: dict[str, Any]) -> Send:
        return self._event({"type": "track", "event": name, "properties": dict(properties)})

    def _event(self, body: dict[str, Any]) -> Send:
        # A clock of milliseconds, and no two events in one: their order stays what it was.
        self.t_ms += 1
        body = {**body, **self._identity(), "messageId": f"{self._prefix}-{self._n_sent}", "timestamp": iso(self.t_ms)}
        if body["type"] != "identify":
            body["properties"]["url"] = self._url
        body["context"] = context_of(self._shopper, self._device, self._url)
        self._n_sent += 1
        return Send(self.t_ms, self._number, body)

    def _identity(self) -> dict[str, str]:
        ids = {"anonymousId": self._device.anonymous_id}
        if self._shopper.user_id is not None and self._device.anonymous_id in self._shopper.signed_in:
            ids["userId"] = self._shopper.user_id
        return ids

    def _offer_fields(self, shown: Shown) -> dict[str, Any]:
        fields: dict[str, Any] = {"offer_id": shown.offer}
        return fields if shown.decision is None else {**fields, "decision_id": shown.decision}

    def _items(self) -> list[dict[str, Any]]:
        return [{"product_id": p, "price": price, "quantity": n} for p, (price, n) in self.state.cart.items()]

    def _draw_product(self) -> tuple[str, float, int]:
        number = int(self._rng.zipf(1.4)) % 400
        return f"sku-{number}", round(9.0 + (number * 37 % 120) + 0.99, 2), 1800 + number * 53 % 2400

    def _wait(self, seconds: float) -> None:
        self.t_ms += max(1, int(seconds * 1000))
