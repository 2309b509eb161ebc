"""The terms of an offer as typed parts of the book: caps, budget, window, redemption, discount, stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.book_values import Count, Duration, Period, Share
from engine.condition_model import Number, Part

Stage = Literal["draft", "staged", "live"]
"""How far an offer or a campaign has come: written down, shown with a preview token, shown to everybody."""
Counted = Literal["servings", "impressions", "redemptions"]


class PerProfile(Part):
    """At most `max` times to one profile in any stretch of `per`, counted when served, seen or redeemed."""

    max: Count
    per_ms: Period = Field(alias="per")
    count: Counted = "servings"


class Caps(Part):
    """How often one visitor may see an offer, and the pause between two times."""

    per_profile: PerProfile | None = None
    cool_down_ms: Duration = Field(default=0, alias="cool_down")


class Budget(Part):
    """At most `max` of `unit` over all visitors in each period, all at once or spread over it."""

    max: Annotated[Number, Field(gt=0.0)]
    unit: Literal["servings", "impressions", "redemptions", "cost"] = "servings"
    per_ms: Period | None = Field(default=None, alias="per")
    pace: Literal["free", "even"] = "free"


class Window(Part):
    """When an offer may be shown, by the clock of the book's zone or of the visitor's."""

    start: Annotated[str, Field(max_length=32)] | None = Field(default=None, alias="from")
    until: Annotated[str, Field(max_length=32)] | None = None
    hours: tuple[Number, Number] | None = None
    weekdays: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] | None = None
    clock: Literal["book", "visitor"] = "book"


class Redemption(Part):
    """Each item carries a signed token that the shop's checkout can verify until it ends."""

    valid_ms: Period = Field(default=24 * 3_600_000, alias="valid")


class Discount(Part):
    """A personal discount: the step between `min` and `max` that is worth most, as a share of margin or price."""

    min: Share
    max: Share
    step: Annotated[Share, Field(gt=0.0)]
    of: Literal["margin", "price"] = "margin"
