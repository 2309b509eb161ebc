"""Webhooks of a book checked: the segments that they name exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.findings import Findings, Loc, nearest, one_of


def check_webhooks(data: Mapping[str, Any], findings: Findings) -> None:
    """Add findings for the webhooks of every campaign."""
    campaigns = data.get("campaigns")
    for name, campaign in campaigns.items() if isinstance(campaigns, Mapping) else ():
        if not isinstance(campaign, Mapping):
            continue
        segments = campaign.get("segments")
        known = list(segments) if isinstance(segments, Mapping) else []
        webhooks = campaign.get("webhooks")
        for destination, raw in webhooks.items() if isinstance(webhooks, Mapping) else ():
            named = raw.get("segments") if isinstance(raw, Mapping) else None
            for n, segment in enumerate(named if isinstance(named, list) else ()):
                if isinstance(segment, str) and segment not in known:
                    loc: Loc = ("campaigns", name, "webhooks", destination, "segments", n)
                    findings.add(loc, "unknown_segment", one_of(known), found=segment, near=nearest(segment, known))
