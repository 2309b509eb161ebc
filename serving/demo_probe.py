"""Probe visitors: how long a signal of each class takes from being sent to being seen in a decision.

- behavioural: a scroll is sent by `/v1/batch`; until a decision has been received whose score has that depth.
- contextual: a context (a phone on a slow network) travels with `/v1/decide`; until the decision with the
  matching treatment has been received.
- predictive: a product is put into the cart by `/v1/batch`; until a decision has been received whose
  conversion probability has changed.

The time is the client's, both requests and everything between them included. A signal that is not seen within
two seconds counts as missed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from serving.demo_tally import Tally

EVERY_S: Final = 0.5
MISSED_S: Final = 2.0
DEPTH_PX: Final = 730
_PHONE: Final = {
    "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/17.5 Mobile/15E148 Safari/604.1",
    "network": {"effectiveType": "2g"},
}

Seen = Callable[[dict[str, Any]], bool]


class Probe:
    """Sends one visitor after another through the three measurements."""

    def __init__(self, client: httpx.AsyncClient, tally: Tally, placement: str, name: str) -> None:
        self._client, self._tally, self._placement, self._name = client, tally, placement, name
        self._n_visitors = 0
        self._n_events = 0
        self._stamp_ms = 0

    async def run(self, n_rounds: int | None = None) -> None:
        """One round of all classes every half second, until cancelled."""
        while n_rounds is None or self._n_visitors < n_rounds:
            try:
                await self.round()
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                self._tally.errors[f"probe {type(error).__name__}"] += 1
            await asyncio.sleep(EVERY_S)

    async def round(self) -> None:
        """Measure each class once with a fresh visitor."""
        self._n_visitors += 1
        visitor = f"{self._name}-probe-{self._n_visitors}"
        page = self._track(visitor, "Page Viewed", {"url": "/p/probe", "height_px": 2000})
        await self._client.post("/v1/batch", json={"batch": [page]})
        scroll = self._track(visitor, "Scroll Depth", {"url": "/p/probe", "scroll_px": DEPTH_PX})
        depth = DEPTH_PX / 1000
        await self._measure("behavioural", visitor, scroll, lambda a: _near(a["score"]["depth"], depth))
        await self._measure("contextual", visitor, None, _slow_phone, _PHONE)
        before = (await self._decide(visitor, {}))["risk"]["conversion"]
        added = self._track(visitor, "Product Added", {"product_id": "sku-probe", "price": 40.0, "url": "/p/probe"})
        await self._measure("predictive", visitor, added, lambda a: a["risk"]["conversion"] not in (None, before))

    async def _measure(
        self, kind: str, visitor: str, event: dict[str, Any] | None, seen: Seen, context: dict[str, Any] | None = None
    ) -> None:
        began = time.perf_counter()
        if event is not None:
            await self._client.post("/v1/batch", json={"batch": [event]})
        while True:
            answer = await self._decide(visitor, context or {})
            elapsed_s = time.perf_counter() - began
            if seen(answer):
                self._tally.signals[kind].add(elapsed_s * 1000)
                return
            if elapsed_s > MISSED_S:
                self._tally.signals[kind].add(None)
                return
            await asyncio.sleep(0.02)

    async def _decide(self, visitor: str, context: dict[str, Any]) -> dict[str, Any]:
        request = {"anonymousId": visitor, "placement": self._placement, "context": context}
        answer: dict[str, Any] = (await self._client.post("/v1/decide", json=request)).json()
        return answer

    def _track(self, visitor: str, event: str, properties: dict[str, Any]) -> dict[str, Any]:
        self._n_events += 1
        self._stamp_ms = max(self._stamp_ms + 1, int(time.time() * 1000))
        return {
            "type": "track", "event": event, "anonymousId": visitor, "properties": properties,
            "messageId": f"{self._name}-probe-event-{self._n_events}", "timestamp": self._stamp_ms,
        }  # fmt: skip


def _near(depth: float | None, wanted: float) -> bool:
    # A decision that came without the profile has no depth.
    return depth is not None and abs(depth - wanted) < 0.01


def _slow_phone(answer: dict[str, Any]) -> bool:
    treatment = answer["treatment"]
    return bool(treatment["layout"] == "mobile_first" and treatment["media"] == "low_bandwidth")
