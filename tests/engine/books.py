"""The printed sample of the design, and small books to bend."""

from __future__ import annotations

import copy
from typing import Any

DESIGN = """
timezone: Europe/Berlin
currency: EUR
campaigns:
  cart_recovery:
    priority: 10
    placements: [product_page, cart_page]
    conversion: {event: Order Completed, within: 5m, value: revenue}
    score:
      weights:
        default: {recency: 0.3, depth: 0.2, conversion: 0.5}
        cart:    {recency: 0.2, depth: 0.4, conversion: 0.4}
    segments:
      high_intent:
        all:
          - {feature: scroll_share, above: 0.70, leave_below: 0.60}
          - {feature: time_on_page_s, above: 15}
        hold: 30s
      near_checkout:
        all: [{feature: stage, in: [checkout, cart]}, {feature: score, above: 0.5}]
    offers:
      free_shipping:
        when: {segment: near_checkout, os: [ios]}
        content: {headline: "Free shipping on your {{ cart.items }} items if you finish today"}
        value: margin
        cost: 4.90
        caps: {per_profile: {max: 1, per: 1d}, cool_down: 30m}
        budget: {max: 5000, unit: servings, per: 1d}
    policy: {kind: thompson}          # or epsilon_greedy with epsilon, or greedy
    holdout: {share: 0.05}
    experiments:
      intent_threshold: {variants: {control: {}, looser: {"segments.high_intent.all[0].above": 0.60}}}
    tier1: {mode: enhance, timeout: 60ms}
"""

SMALL: dict[str, Any] = {
    "timezone": "Europe/Berlin",
    "currency": "EUR",
    "campaigns": {
        "c": {
            "placements": ["home"],
            "segments": {"keen": {"all": [{"feature": "scroll_share", "above": 0.7, "leave_below": 0.6}]}},
            "offers": {"gift": {"when": {"segment": "keen"}, "content": {"text": "hello"}}},
        }
    },
}


def book(**changes: Any) -> dict[str, Any]:
    """The small book, with parts of its campaign replaced."""
    data = copy.deepcopy(SMALL)
    data["campaigns"]["c"].update(changes)
    return data


def segment(**parts: Any) -> dict[str, Any]:
    """The small book with one segment made of these parts, and an offer for everyone."""
    return book(segments={"s": parts}, offers={})


def clause(**parts: Any) -> dict[str, Any]:
    """The small book whose one segment is this clause."""
    return segment(all=[parts])


def offer(**parts: Any) -> dict[str, Any]:
    """The small book with these parts in its offer."""
    return book(offers={"gift": {"content": "hello", **parts}})


def experiment(changes: dict[str, Any]) -> dict[str, Any]:
    """The small book with an experiment of two variants: control, and one with these changes."""
    return book(experiments={"e": {"variants": {"control": {}, "other": changes}}})
