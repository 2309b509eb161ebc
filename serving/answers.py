"""The shapes of answers, for the OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from serving.contract import Shape, Share, Snake


class Rejection(Shape):
    """Why an event was not taken."""

    index: int
    code: str
    message: str


class Counts(Shape):
    """What became of the events."""

    success: bool
    accepted: int
    duplicates: int
    rejected: list[Rejection]


class Item(Shape):
    """One thing to show."""

    id: str
    kind: Literal["offer", "base"]
    content: Any
    score: float | None
    propensity: Share
    reason: str


class Treatment(Shape):
    """How to show it."""

    layout: str
    media: str


class Weights(Shape):
    """Of the three parts of the score."""

    recency: float | None
    depth: float | None
    conversion: float | None


class Score(Shape):
    """The priority of micro-segments; null is not known."""

    value: float | None
    recency: float | None
    depth: float | None
    conversion: float | None
    weights: Weights
    stage: str | None


class Risk(Shape):
    """Probabilities; null is not known."""

    conversion: float | None
    churn: float | None


class Next(Shape):
    """The offer with the most uplift."""

    offer: str | None
    uplift: float | None


class ModelRef(Shape):
    """The model that was asked."""

    version: str | None
    arm: str | None


class Degraded(Shape):
    """The rung of the ladder that answered, and why not a better one."""

    rung: Literal["precomputed", "rules", "tier1"]
    reason: str | None


class SignalCounts(Shape):
    """What became of the signals that came along."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]


class Decision(Shape):
    """The answer for one placement."""

    decision_id: str | None
    recorded: bool
    profile_id: str
    placement: str
    items: list[Item]
    segments: list[str]
    treatment: Treatment
    score: Score | None
    risk: Risk
    next: Next
    model: ModelRef
    holdout: bool
    variants: dict[str, str]
    degraded: Degraded | None
    signals: SignalCounts | None = None
    explain: Any = None


class RewardStatus(Shape):
    """Recorded now, or already."""

    status: Literal["recorded", "repeated"]


class DecisionRecord(Shape):
    """The decision as recorded, with its explanation; `identical` where it was replayed."""

    decision_id: str | None = None
    identical: bool | None = None


class Profile(Shape):
    """State, features, segments and identities of a visitor."""

    profile_id: str


class Export(Shape):
    """Everything held about a visitor."""


class ErasureReceipt(Shape):
    """Names no identity; ask again by the same call."""

    id: str
    status: Literal["pending", "done"]


class Erasure(Shape):
    """An erasure that has begun."""

    receipt: ErasureReceipt


class Unlinked(Shape):
    """The merge was undone."""

    unlinked: bool


class Scored(Shape):
    """Shared with Tier 1."""

    conversion: float | None
    churn: float | None
    score: Any
    model: Any


class Models(Shape):
    """Versions with their cards."""

    models: list[dict[str, Any]]


class BookInForce(Shape):
    """The campaign book with its version."""

    version: str


class BookVersion(Shape):
    """A version of the book."""

    version: str


class Status(Shape):
    """How it is."""

    status: str


class Problem(Snake):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; for programs.")
    message: str = Field(description="For people.")
