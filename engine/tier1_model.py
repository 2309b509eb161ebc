"""How a campaign of the book is combined with the suggestions of a slower recommender, Tier 1."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.book_values import Duration, Period, Share
from engine.condition_model import Part

Mode = Literal["fill", "enhance", "override", "suppress", "apprentice"]


class Tier1(Part):
    """Where Tier 1's suggestions come from when a request brings none, and what becomes of them.

    `weight` is Tier 2's in the blend of `enhance` and `apprentice`: at 0 Tier 1's order, at 1 Tier 2's. `scores` says
    what Tier 1's scores are. `divergence` is how far the blend may depart from Tier 1's order, 0–1.
    """

    mode: Mode = "fill"
    weight: Share = 0.5
    scores: Literal["rank", "probability"] = "rank"
    divergence: Share | None = None
    url: Annotated[str, Field(max_length=2000)] | None = None
    timeout_ms: Period = Field(default=60, alias="timeout")
    cache_ms: Duration = Field(default=10_000, alias="cache")
