"""The shapes of requests, for the OpenAPI description; the hot path validates by hand to the same rules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Id = Annotated[str, Field(min_length=1, max_length=256, description="No control characters.")] | int
Moment = Annotated[
    str | float, Field(description="ISO 8601 (no zone is UTC) or epoch milliseconds, from 2000-01-01 to now + 24 h.")
]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, le=1e12)]
Currency = Annotated[str, Field(pattern="^[A-Za-z]{3}$", description="ISO 4217.")]


class Shape(BaseModel):
    """camelCase names; more than these are taken, and ignored."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True)


class Snake(BaseModel):
    """Names as they stand."""

    model_config = ConfigDict(extra="allow")


class Product(Snake):
    """A line of a cart or an order."""

    product_id: Id | None = Field(default=None, description="Or `item_id`, `sku`, `id`.")
    price: Amount | None = None
    quantity: Annotated[float, Field(ge=1, le=1e6)] | None = Field(default=None, description="1 where absent.")


class Properties(Snake):
    """What is understood; everything else is kept with the signal, and read by nothing."""

    url: str | None = None
    title: str | None = None
    height_px: Annotated[float, Field(ge=0, le=1e7)] | None = None
    scroll_px: Annotated[float, Field(ge=0, le=1e7)] | None = None
    scroll_share: Share | None = None
    percent_scrolled: Annotated[float, Field(ge=0, le=100)] | None = None
    time_on_page_s: Annotated[float, Field(ge=0, le=604800)] | None = Field(
        default=None, description="Visible and active seconds on this page so far."
    )
    engagement_time_msec: Annotated[float, Field(ge=0, le=604800000)] | None = None
    hover_ms: Annotated[float, Field(ge=0, le=604800000)] | None = None
    target: str | None = None
    product_id: Id | None = None
    price: Amount | None = None
    quantity: Annotated[float, Field(ge=1, le=1e6)] | None = None
    currency: Currency | None = None
    products: list[Product] | None = Field(default=None, max_length=200)
    items: list[Product] | None = Field(default=None, max_length=200)
    step: Annotated[float, Field(ge=1, le=100)] | None = None
    order_id: Id | None = None
    transaction_id: Id | None = None
    revenue: Amount | None = None
    value: Amount | None = None
    decision_id: Id | None = None
    offer_id: Id | None = None
    token: str | None = Field(default=None, description="Of the item redeemed; it says decision and offer.")


class ConsentPreferences(Shape):
    """Absent is the settings' default."""

    analytics: bool | None = None
    personalisation: bool | None = None
    training: bool | None = None


class Consent(Shape):
    """Segment's consent object."""

    category_preferences: ConsentPreferences | None = None


class Network(Shape):
    """Segment's network, or the browser's Network Information."""

    wifi: bool | None = None
    cellular: bool | None = None
    effective_type: str | None = Field(default=None, examples=["4g"])
    save_data: bool | None = None


class Location(Shape):
    """Where the visitor is."""

    latitude: float | None = None
    longitude: float | None = None
    country: str | None = None


class Context(Shape):
    """Segment's context. Values that cannot be used count as not given."""

    user_agent: str | None = None
    locale: str | None = Field(default=None, examples=["de-DE"])
    timezone: str | None = Field(default=None, examples=["Europe/Berlin"])
    network: Network | None = None
    location: Location | None = None
    consent: Consent | None = None


class Event(Shape):
    """An event of the Segment/RudderStack spec; `userId` or `anonymousId` is required."""

    user_id: Id | None = None
    anonymous_id: Id | None = None
    device_id: Id | None = Field(default=None, description="An identity where the settings say so.")
    hashed_email: str | None = Field(default=None, description="SHA-256 of the normalised address, likewise.")
    message_id: Id | None = Field(default=None, description="The same id takes effect once in 24 h.")
    timestamp: Moment | None = None
    sent_at: Moment | None = None
    context: Context | None = None


class TrackEvent(Event):
    """Something the visitor did."""

    event: str = Field(min_length=1, max_length=256)
    properties: Properties | None = None


class IdentifyEvent(Event):
    """Who the visitor is; with both ids the anonymous visitor is linked to the user."""

    traits: dict[str, Any] | None = None


class PageEvent(Event):
    """A page or a screen was viewed."""

    name: str | None = None
    properties: Properties | None = None


class GroupEvent(Event):
    """A group the visitor belongs to."""

    group_id: Id
    traits: dict[str, Any] | None = None


class AliasEvent(Event):
    """An earlier anonymous id of a user."""

    user_id: Id
    previous_id: Id | None = Field(default=None, description="`anonymousId` where absent.")


class BatchEvent(Event):
    """One event of a batch."""

    type: Literal["track", "identify", "page", "screen", "group", "alias"]
    event: str | None = None
    properties: Properties | None = None
    traits: dict[str, Any] | None = None
    group_id: Id | None = None
    previous_id: Id | None = None


class Batch(Shape):
    """Events of any types and visitors; each is judged by itself, and reported by its index."""

    batch: list[BatchEvent] = Field(min_length=1)
    context: Context | None = None
    sent_at: Moment | None = None


class BaseItem(Shape):
    """One of Tier 1's suggestions."""

    id: Id
    score: float | None = None
    content: Any = None


class DecideRequest(Shape):
    """What to show this visitor in this place; `userId` or `anonymousId` is required."""

    user_id: Id | None = None
    anonymous_id: Id | None = None
    placement: Id
    campaign: Id | None = None
    request_id: Id | None = Field(default=None, description="The same id gets the same decision.")
    page_view_id: Id | None = Field(default=None, description="No item twice on one page.")
    context: Context | None = None
    signals: Any = Field(default=None, description="Events applied first; bad ones never fail the decision.")
    base: list[BaseItem] | None = Field(default=None, max_length=500)
    limit: Annotated[int, Field(ge=1, le=100)] | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=10_000)] | None = None
    explain: bool | None = None
    preview: str | None = Field(default=None, description="Of POST /v1/campaigns/preview: staged offers are shown.")
    qa: dict[str, Any] | None = Field(default=None, description="With the admin key: {offer, segments} to force.")


class Reward(Shape):
    """What a decision was worth, by type."""

    value: Share
    type: Annotated[str, Field(min_length=1, max_length=64)]


class TrainRequest(Shape):
    """What to train: trees anew or leaves refitted; the conversion model, or the one of churn."""

    recipe: Literal["retrain", "refit"] | None = None
    target: Literal["conversion", "churn"] = "conversion"


class RolloutStart(Shape):
    """A candidate that is kept already."""

    kind: Literal["model", "book"] = "model"
    version: str
    by: str | None = None
    why: str | None = None


class ByHand(Shape):
    """Who does it, and why: for the audit log."""

    by: str | None = None
    why: str | None = None


class Identities(Shape):
    """A user and one identity that is to stand by itself again: one of the others."""

    user_id: Id
    anonymous_id: Id | None = None
    device_id: Id | None = None
    email: str | None = None
    hashed_email: Annotated[str, Field(pattern="^[0-9A-Fa-f]{64}$")] | None = None


class VisitorIdRequest(Shape):
    """Consent, if any is told, decides whether an id is kept."""

    context: Context | None = None


class ScoreRequest(Shape):
    """Whose; `userId` or `anonymousId` is required."""

    user_id: Id | None = None
    anonymous_id: Id | None = None
    context: Context | None = None
