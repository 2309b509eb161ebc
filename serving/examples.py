"""Example bodies for the API's description; a test sends each of them."""

from __future__ import annotations

from typing import Any, Final

TRACK: Final[dict[str, Any]] = {
    "anonymousId": "a-1", "messageId": "m-1", "event": "Scroll Depth",
    "properties": {"url": "https://shop.example/shoes", "scroll_px": 840, "scroll_share": 0.72},
}  # fmt: skip
IDENTIFY: Final[dict[str, Any]] = {
    "userId": "ada", "anonymousId": "a-1", "messageId": "m-2", "traits": {"plan": "plus", "cohort": "spring"},
}  # fmt: skip
PAGE: Final[dict[str, Any]] = {
    "anonymousId": "a-1", "messageId": "m-3", "name": "Shoes",
    "properties": {"url": "https://shop.example/shoes", "title": "Shoes", "height_px": 3200},
}  # fmt: skip
SCREEN: Final[dict[str, Any]] = {"userId": "ada", "messageId": "m-4", "name": "Cart"}
GROUP: Final[dict[str, Any]] = {"userId": "ada", "messageId": "m-5", "groupId": "club", "traits": {"tier": "gold"}}
ALIAS: Final[dict[str, Any]] = {"userId": "ada", "previousId": "a-0", "messageId": "m-6"}
BATCH: Final[dict[str, Any]] = {
    "batch": [{"type": "track", **TRACK}, {"type": "identify", **IDENTIFY}, {"type": "page", **PAGE}],
    "context": {"locale": "de-DE", "timezone": "Europe/Berlin"},
}
COUNTS: Final[dict[str, Any]] = {"success": True, "accepted": 1, "duplicates": 0, "rejected": []}
DECIDE: Final[dict[str, Any]] = {
    "anonymousId": "a-1", "placement": "product_page", "requestId": "r-1", "pageViewId": "pv-1",
    "context": {"locale": "de-DE", "timezone": "Europe/Berlin", "network": {"effectiveType": "4g"}},
    "signals": [{"event": "Scroll Depth", "properties": {"scroll_px": 840}}],
    "base": [{"id": "banner-1", "score": 0.4, "content": {"headline": "New in"}}], "limit": 3, "explain": True,
}  # fmt: skip
DECISION: Final[dict[str, Any]] = {
    "decisionId": "d_17_3_1204_0", "recorded": True, "profileId": "p_YW5vbjphLTE", "placement": "product_page",
    "items": [{"id": "free_shipping", "kind": "offer", "content": {"headline": "Free shipping"}, "score": 0.21,
               "propensity": 0.83, "reason": "DRAWN"}],
    "segments": ["high_intent"], "treatment": {"layout": "compact", "media": "standard"},
    "score": {"value": 0.61, "recency": 0.98, "depth": 0.84, "conversion": 0.3,
              "weights": {"recency": 0.3, "depth": 0.2, "conversion": 0.5}, "stage": "engaged"},
    "risk": {"conversion": 0.3, "churn": 0.12}, "next": {"offer": "free_shipping", "uplift": 0.06},
    "model": {"version": "prior-1", "arm": "champion"}, "holdout": False, "variants": {}, "degraded": None,
    "signals": {"accepted": 1, "duplicates": 0, "rejected": []},
}  # fmt: skip
REWARD: Final[dict[str, Any]] = {"value": 1, "type": "conversion"}
UNLINK: Final[dict[str, Any]] = {"userId": "ada", "anonymousId": "a-1"}
SCORE: Final[dict[str, Any]] = {"userId": "ada"}
SCORED: Final[dict[str, Any]] = {
    "conversion": 0.3, "churn": 0.12, "score": DECISION["score"], "model": DECISION["model"],
}  # fmt: skip
TRAIN: Final[dict[str, Any]] = {"recipe": "retrain", "target": "conversion"}
TRAINED: Final[dict[str, Any]] = {"runId": "t7", "joined": False}
BY_HAND: Final[dict[str, Any]] = {"by": "ann", "why": "complaints about the banner"}
ROLLOUT_START: Final[dict[str, Any]] = {"kind": "model", "version": "lgbm-5f2c9a10b3d4", "by": "ann"}
ROLLBACK: Final[dict[str, Any]] = {"version": "b1-5f2c9a10"}
