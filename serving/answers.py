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
    refused_links: list[Rejection] | None = Field(
        default=None, description="Links between identities that were not made, though the event was taken."
    )


class Item(Shape):
    """One thing to show."""

    id: str
    kind: Literal["offer", "base"]
    content: Any
    score: float | None
    propensity: Share
    reason: str
    token: str | None = Field(default=None, description="What redeems it, where the offer has a redemption.")


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
    """The next best action: the eligible offer that is worth most, or to wait."""

    action: Literal["show", "wait"] = "wait"
    offer: str | None
    uplift: float | None
    p: float | None = Field(default=None, description="The conversion probability with it.")
    worth: float | None = Field(default=None, description="uplift × value − p × cost; to wait is worth 0.")


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


class Harmony(Shape):
    """How the answer goes together with Tier 1's suggestions."""

    mode: str | None
    agreement: float | None = Field(description="Average overlap with Tier 1's order, 0–1.")
    divergence: float | None = Field(description="How far the blend departs from it, where the book has a limit.")
    would: list[str] | None = Field(description="What Tier 2 would have shown, where it was not.")
    source: str | None = Field(default=None, description="fetched, cached, stale, or why there are no suggestions.")


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
    tier1: Harmony | None = None
    qa: Literal["preview", "qa"] | None = None
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


class VisitorId(Shape):
    """The visitor's id as the server keeps it; null where none is kept."""

    anonymous_id: str | None
    created: bool


class Tier1State(Shape):
    """Whom this ingress asks for suggestions, how that goes, and how far the tiers agree."""

    sources: list[dict[str, Any]]
    agreement: list[dict[str, Any]]


class Models(Shape):
    """Versions with their cards."""

    models: list[dict[str, Any]]


class Experiments(Shape):
    """Experiments of the book in force, with intervals that hold at every look."""

    experiments: list[dict[str, Any]]
    as_of_ms: int | None
    pending: bool = Field(description="Newer results are being worked out: ask again.")


class TrainingAccepted(Shape):
    """A training will be done."""

    run_id: str
    joined: bool = Field(description="One waited already; this is its id.")


class TrainingRun(Shape):
    """One training: where it stands, and every gate with its numbers."""

    run_id: str
    target: Literal["conversion", "churn"]
    recipe: Literal["retrain", "refit"] | None
    why: str
    state: Literal["queued", "running", "submitted", "published", "kept", "refused", "failed", "cancelled"] = Field(
        description="submitted: handed to the rollout; published: in force; kept: without a rollout."
    )
    stage: str | None
    share: float = Field(description="How much of it is done, 0–1.")
    attempt: int
    asked_ms: int
    started_ms: int | None
    ended_ms: int | None
    reason: str | None = Field(description="A stable code where it came to nothing.")
    message: str | None
    champion: str | None
    candidate: str | None
    n_rows: int | None
    findings: list[dict[str, Any]]


class Trainings(Shape):
    """The newest trainings, and how the trainer stands."""

    trainer: dict[str, Any] | None
    runs: list[TrainingRun]


class BookInForce(Shape):
    """The campaign book with its version."""

    version: str


class BookVersion(Shape):
    """A version of the book."""

    version: str


class Why(Shape):
    """Why a part of a decision comes out otherwise."""

    what: str
    text: str


class ChangedDecision(Shape):
    """A decision that comes out otherwise: the answer of the book in force, and that of the proposed one."""

    decision_id: str
    profile_id: str
    at_ms: int
    placement: str
    changes: list[str]
    before: dict[str, Any]
    after: dict[str, Any]
    why: list[Why]


class DryRun(Shape):
    """Recorded decisions taken again by a proposed book, each from its own recorded inputs."""

    decisions: int = Field(description="Looked at.")
    changed: int
    decided_again: int = Field(description="Recorded under earlier versions: the book in force decided them again too.")
    unreadable: int = Field(description="Recorded under another feature schema, and left out.")
    from_: int | None = Field(alias="from", description="Epoch ms of the oldest decision looked at.")
    until: int | None
    kinds: dict[str, int] = Field(description="Decisions with each kind of change; `figures` alone changes no answer.")
    segments: dict[str, dict[str, int]] = Field(description="campaign.segment: decisions before, after, entered, left.")
    offers: dict[str, dict[str, int]] = Field(description="campaign.offer: servings before, after, gained, lost.")
    reasons: dict[str, dict[str, int]] = Field(description="campaign.offer: how often each reason became which.")
    changed_ids: list[str]
    examples: list[ChangedDecision]
    book: str = Field(description="The version in force, compared with.")
    missing: list[dict[str, Any]] = Field(description="Shards that did not answer, and why.")
    warnings: list[str]


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
