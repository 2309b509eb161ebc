"""The campaign book as typed parts: what may stand where, of which type, with which default."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from engine.book_values import Duration, Money, Name, Period, Priority, Share, Worth
from engine.condition_model import Group, Part, When
from engine.geofence_model import Geofence
from engine.offer_model import Budget, Caps, Discount, Redemption, Stage, Window
from engine.tier1_model import Tier1

CONVERSION_EVENTS: Final[dict[str, str]] = {
    "order completed": "order_completed", "purchase": "order_completed", "order_completed": "order_completed",
    "product added": "product_added", "add_to_cart": "product_added", "product_added": "product_added",
    "checkout started": "checkout_started", "begin_checkout": "checkout_started",
    "checkout_started": "checkout_started",
    "product viewed": "product_viewed", "view_item": "product_viewed", "product_viewed": "product_viewed",
    "cart viewed": "cart_viewed", "view_cart": "cart_viewed", "cart_viewed": "cart_viewed",
    "offer clicked": "offer_clicked", "select_promotion": "offer_clicked", "offer_clicked": "offer_clicked",
    "offer redeemed": "offer_redeemed", "offer_redeemed": "offer_redeemed",
    "clicked": "click", "click": "click",
}  # fmt: skip
"""Event names a conversion may have (lower case), and the kind of signal each is."""
EVENT_NAMES: Final = (
    "Order Completed", "purchase", "Product Added", "add_to_cart", "Checkout Started", "begin_checkout",
    "Product Viewed", "view_item", "Cart Viewed", "view_cart", "Offer Clicked", "select_promotion",
    "Offer Redeemed", "Clicked", "click",
)  # fmt: skip
"""The same as one would write them, for messages."""

DEFAULT_LAPSING_ABOVE: Final = 0.7
DEFAULT_CHURN_HORIZON_MS: Final = 14 * 86_400_000
DEFAULT_MARGIN_SHARE: Final = 0.3
DEFAULT_BASKET: Final = 50.0
"""What an empty or unpriced cart is taken to be worth, in the book's currency."""


class Lapsing(Part):
    """Above which churn risk a visitor counts as lapsing."""

    churn_above: Share = DEFAULT_LAPSING_ABOVE


class BookLapsing(Lapsing):
    """The same for the whole book, and after how long without a visit somebody counts as gone: churn is learned so."""

    horizon_ms: Period = Field(default=DEFAULT_CHURN_HORIZON_MS, alias="horizon")


class Conversion(Part):
    """What counts as success, how soon after the decision, and what it is worth."""

    event: str = "Order Completed"
    within_ms: Period = Field(default=30 * 60_000, alias="within")
    value: Worth = "revenue"

    @property
    def kind(self) -> str:
        """The kind of signal that is the conversion."""
        return CONVERSION_EVENTS[self.event.strip().lower()]


class StageWeights(Part):
    """The weights of recency, depth and conversion probability in the score."""

    recency: Money
    depth: Money
    conversion: Money


DEFAULT_WEIGHTS: Final = StageWeights(recency=0.3, depth=0.2, conversion=0.5)


class ScoreSpec(Part):
    """Weights by lifecycle stage; `default` for the stages not named."""

    weights: dict[str, StageWeights] = Field(default_factory=dict)


class Segment(Group):
    """A condition with a minimum hold; higher `priority` ranks first, then the score."""

    hold_ms: Duration = Field(default=0, alias="hold")
    priority: Priority = 0


def everyone() -> When:
    """The condition of an offer that has none."""
    return When.model_validate({})


class Offer(Part):
    """What may be shown, to whom, what a conversion with it is worth and what it costs."""

    when: When = Field(default_factory=everyone)
    content: Any
    value: Worth = "margin"
    cost: Money = 0.0
    caps: Caps = Field(default_factory=Caps)
    budget: Budget | None = None
    window: Window | None = None
    product: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    discount: Discount | None = None
    redemption: Redemption | None = None
    stage: Stage = "live"
    priority: Priority = 0


class Policy(Part):
    """How one of the eligible offers is chosen."""

    kind: Literal["greedy", "epsilon_greedy", "thompson"] = "thompson"
    epsilon: Share | None = None


class Holdout(Part):
    """The share of visitors who never see an offer of the campaign, to measure against."""

    share: Annotated[float, Field(strict=True, ge=0.0, le=0.5, allow_inf_nan=False)] = 0.0


class Experiment(Part):
    """Variants of the campaign, each a set of changes by path, shown to equal parts of `share` of the visitors."""

    variants: dict[Name, dict[str, Any]]
    share: Share | None = None
    layer: Name | None = None


class Webhook(Part):
    """What a destination of the settings is told: who enters and who leaves these segments."""

    segments: Annotated[tuple[Name, ...], Field(min_length=1)]
    tell: Annotated[tuple[Literal["enter", "leave"], ...], Field(min_length=1)] = ("enter", "leave")
    to_holdout: Annotated[bool, Field(strict=True)] = False


class Campaign(Part):
    """One goal: where it shows, what success is, who is who, what to offer, and how to learn from it."""

    enabled: Annotated[bool, Field(strict=True)] = True
    stage: Stage = "live"
    priority: Priority = 0
    placements: tuple[Name, ...]
    conversion: Conversion = Field(default_factory=Conversion)
    score: ScoreSpec = Field(default_factory=ScoreSpec)
    lapsing: Lapsing | None = None
    segments: dict[Name, Segment] = Field(default_factory=dict)
    offers: dict[Name, Offer] = Field(default_factory=dict)
    policy: Policy = Field(default_factory=Policy)
    holdout: Holdout = Field(default_factory=Holdout)
    experiments: dict[Name, Experiment] = Field(default_factory=dict)
    webhooks: dict[Name, Webhook] = Field(default_factory=dict)
    tier1: Tier1 = Field(default_factory=Tier1)


class BookModel(Part):
    """The whole file."""

    timezone: str = "UTC"
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    margin_share: Share = DEFAULT_MARGIN_SHARE
    basket: Money = DEFAULT_BASKET
    lapsing: BookLapsing = Field(default_factory=BookLapsing)
    geofences: dict[Name, Geofence] = Field(default_factory=dict)
    campaigns: dict[Name, Campaign]
