"""One visitor told step by step: what Kairos decides before and after she scrolls, and why, in plain words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx

from engine.errors import KairosError

_PHONE: Final = {
    "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/17.5 Mobile/15E148 Safari/604.1",
    "locale": "de-DE",
    "timezone": "Europe/Berlin",
    "network": {"effectiveType": "4g"},
}
_URL: Final = "https://shop.example/p/boots"
BASE: Final = [{"id": "also-bought-laces"}, {"id": "also-bought-wax"}]
"""What the shop's own recommender (Tier 1) suggests beside the page."""
MAX_TRIES: Final = 40

_SCROLLS: Final = [("Scroll Depth", {"scroll_px": px, "scroll_share": px / 1200}) for px in (300, 620, 860, 980)]
CHAPTERS: Final[tuple[tuple[str, str, list[tuple[str, dict[str, Any]]]], ...]] = (
    (
        "product_page",
        "A visitor opens a product page on an iPhone.",
        [
            ("Page Viewed", {"title": "Boots", "height_px": 1200}),
            ("Product Viewed", {"product_id": "boots", "price": 79.0, "currency": "EUR"}),
        ],
    ),
    (
        "product_page",
        "She scrolls to 82 % of it and stays for 38 seconds.",
        [*_SCROLLS, ("Heartbeat", {"time_on_page_s": 38}), ("Hover", {"hover_ms": 1400, "target": "product-image"})],
    ),
    (
        "cart_page",
        "She puts the boots into the cart, begins the checkout, and stops.",
        [
            ("Product Added", {"product_id": "boots", "price": 79.0, "quantity": 1, "currency": "EUR"}),
            ("Checkout Started", {"step": 1, "value": 79.0, "currency": "EUR"}),
        ],
    ),
)
_REASONS: Final = {
    "BEST": "the best of what was eligible",
    "DRAWN": "drawn by the policy, which keeps trying what it is not sure of",
    "TIER1": "Tier 1's own suggestion",
}


class StoryFailed(KairosError):
    """The Kairos that was asked cannot play the demo, for example because its book has other placements."""


@dataclass(frozen=True, slots=True)
class Teller:
    """Plays the chapters over HTTP and hands lines of text to `say`."""

    client: httpx.AsyncClient
    name: str
    say: Callable[[str], None]

    async def tell(self) -> dict[str, Any]:
        """The whole story; returns the last decision.

        Raises:
            StoryFailed: no decision could be had. httpx.HTTPError: nobody answers.
        """
        visitor = await self._visitor()
        before: dict[str, Any] | None = None
        for number, (placement, text, signals) in enumerate(CHAPTERS):
            await self._send(visitor, number, signals)
            answer = await self._decide(visitor, placement)
            self.say("")
            self.say(f"{number + 1}. {text}")
            for line in told(answer, before):
                self.say("   " + line)
            before = answer
        assert before is not None
        return before

    async def _visitor(self) -> str:
        """A visitor outside the holdout, who may be shown offers."""
        for attempt in range(MAX_TRIES):
            visitor = f"{self.name}-story-{attempt}"
            answer = await self._decide(visitor, CHAPTERS[0][0])
            if attempt == 0:
                self.say(f"first decision: {answer.get('decisionId') or 'not recorded'}, model {_model(answer)}")
            if not answer["holdout"]:
                return visitor
        raise StoryFailed("all_held_out", f"{MAX_TRIES} visitors in a row are in the holdout: is its share 1?")

    async def _send(self, visitor: str, chapter: int, signals: list[tuple[str, dict[str, Any]]]) -> None:
        now_ms = int(time.time() * 1000)
        batch = [
            {
                "type": "track", "event": event, "anonymousId": visitor, "messageId": f"{visitor}-{chapter}-{n}",
                "timestamp": now_ms + 10 * chapter + n,
                "properties": {**properties, "url": _URL}, "context": _PHONE,
            }
            for n, (event, properties) in enumerate(signals)
        ]  # fmt: skip
        _checked(await self.client.post("/v1/batch", json={"batch": batch}))

    async def _decide(self, visitor: str, placement: str) -> dict[str, Any]:
        request = {
            "anonymousId": visitor, "placement": placement, "context": _PHONE, "base": BASE, "limit": 2,
            "explain": True,
        }  # fmt: skip
        return _checked(await self.client.post("/v1/decide", json=request))


def told(answer: dict[str, Any], before: dict[str, Any] | None) -> Iterator[str]:
    """A decision in plain words; what it says about the one before it is what changed."""
    old = set((before or {}).get("segments") or ())
    entered = [name for name in answer["segments"] if name not in old]
    left = sorted(old - set(answer["segments"]))
    explained = answer.get("explain") or {}
    if entered:
        yield f"segments entered: {', '.join(entered)}"
        yield from _clauses(explained, entered)
    if left:
        yield f"segments left: {', '.join(left)}"
    if not answer["segments"]:
        yield "segments: none yet"
        yield from _clauses(explained, None)
    yield _score(answer)
    for item in answer["items"]:
        why = _REASONS.get(item["reason"], item["reason"])
        yield f"shown: {item['id']}{_headline(item)}; {why}; probability of this choice {item['propensity']:.2f}"
    if not answer["items"]:
        yield "shown: nothing"
    for offer in explained.get("offers") or ():
        if offer["reason"] != "CHOSEN":
            yield f"not shown: {offer['offer']}: {offer['text']}"
    treatment = answer["treatment"]
    yield f"treatment: layout {treatment['layout']}, media {treatment['media']}"
    if answer.get("degraded"):
        yield f"degraded: {answer['degraded']['rung']}, because {answer['degraded']['reason']}"


def _clauses(explained: dict[str, Any], names: list[str] | None) -> Iterator[str]:
    for segment in explained.get("segments") or ():
        if names is None or segment["name"] in names:
            failing = [c for c in segment["clauses"] if not c["holds"]]
            shown = failing[:1] if names is None else segment["clauses"]
            yield f"  {segment['name']}: " + "; ".join(c["text"] for c in shown)


def _score(answer: dict[str, Any]) -> str:
    score = answer.get("score") or {}
    if score.get("value") is None:
        return "score: none"
    weights = score["weights"]
    parts = " + ".join(f"{weights[p]:g} × {p} {score[p]:.2f}" for p in ("recency", "depth", "conversion"))
    return f"score {score['value']:.2f} = {parts}; stage {score['stage']}; model {_model(answer)}"


def _headline(item: dict[str, Any]) -> str:
    content = item.get("content")
    headline = content.get("headline") if isinstance(content, dict) else None
    return f' "{headline}"' if headline else ""


def _model(answer: dict[str, Any]) -> str:
    return str((answer.get("model") or {}).get("version") or "none")


def _checked(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    if response.status_code == 200 and isinstance(answer, dict):
        return answer
    message = answer.get("message") or response.reason_phrase
    raise StoryFailed(str(answer.get("code", "refused")), f"HTTP {response.status_code}: {message}")
