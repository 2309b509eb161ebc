"""A decision as data: what was answered, with what probability, and the verdict on every offer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from engine.ids import profile_id
from engine.score import Score, Weights

# Reasons for an item that is shown.
BEST, DRAWN, TIER1, BLENDED = "BEST", "DRAWN", "TIER1", "BLENDED"
# Reasons for an offer that is not, or for Tier 1's plain order.
CHOSEN, NOT_DRAWN, SLOTS_FULL, CONDITION, CAP, COOL_DOWN, BUDGET, ALREADY_SHOWN, WINDOW, STOCK = (
    "CHOSEN", "NOT_DRAWN", "SLOTS_FULL", "CONDITION", "CAP", "COOL_DOWN", "BUDGET", "ALREADY_SHOWN", "WINDOW", "STOCK",
)  # fmt: skip
DIVERGED = "DIVERGED"
"""Tier 2's order was too far from Tier 1's, which was served."""
FORCED = "FORCED"
"""Shown because quality assurance asked for it."""
HOLDOUT, CONSENT, BOT, DEGRADED, NOT_RECORDED, NO_OFFERS, APPRENTICE = (
    "HOLDOUT", "CONSENT", "BOT", "DEGRADED", "NOT_RECORDED", "NO_OFFERS", "APPRENTICE",
)  # fmt: skip
UNSHOWN: Final = frozenset({APPRENTICE, DIVERGED})
"""Reasons of answers whose offers were drawn and then not shown."""
WEIGHTS: Final = Weights._fields
CAMPAIGN, SLOTS, SEGMENTS, MODEL, ARM, IN_HOLDOUT, VARIANTS, RUNG, SHOWN, PLAIN, TRIAL = (
    0, 2, 3, 11, 12, 13, 14, 15, 20, 21, 22,
)  # fmt: skip
"""Where they stand in `Decision.to_list()`; what was shown is its `served`."""
HARMONY: Final = ("mode", "agreement", "divergence", "would")
# Rungs of the ladder, best first.
RUNGS: Final = ("model", "precomputed", "rules", "tier1")


@dataclass(slots=True)
class Item:
    """One thing to show: an offer of the book, or one of Tier 1's suggestions (`base`)."""

    id: str
    kind: str
    content: Any
    score: float | None
    propensity: float
    reason: str
    redeem_by_ms: int | None = None
    """Until when it can be redeemed; None where it carries no token."""
    discount: float | None = None
    """What a personal discount takes off."""

    def to_list(self) -> list[Any]:
        """The journal's form; what most items do not have is left out."""
        row = [self.id, self.kind, self.content, self.score, self.propensity, self.reason]
        return row if self.redeem_by_ms is None and self.discount is None else [*row, self.redeem_by_ms, self.discount]


@dataclass(slots=True)
class Verdict:
    """Why an offer was shown or not, with its conversion probability, uplift and worth where they were computed."""

    offer: str
    reason: str
    p: float | None = None
    uplift: float | None = None
    worth: float | None = None
    detail: str | None = None


@dataclass(slots=True)
class Slot:
    """One draw: the eligible candidates ("" is no offer), their exact propensities, the one drawn."""

    candidates: list[str]
    propensities: list[float]
    drawn: str


@dataclass(slots=True)
class Decision:
    """The answer for one placement, and its effects on the profile.

    `memberships` are those after the decision, None where it did not look; `assignments` are the new ones;
    `served` names the offers shown, keyed `campaign.offer`. `trial` is [rollout, stage, arm, p by the champion,
    p by the challenger], the probabilities of the row served, where this visitor takes part in a rollout.
    """

    campaign: str | None = None
    items: list[Item] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    layout: str = "standard"
    media: str = "standard"
    score: Score | None = None
    conversion: float | None = None
    churn: float | None = None
    next_offer: str | None = None
    next_uplift: float | None = None
    model: str = ""
    arm: str = "champion"
    holdout: bool = False
    variants: dict[str, str] = field(default_factory=dict)
    rung: str = "model"
    reason: str | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    memberships: dict[str, list[int]] | None = None
    assignments: dict[str, list[Any]] = field(default_factory=dict)
    served: list[str] = field(default_factory=list)
    plain: str | None = None
    trial: list[Any] | None = None
    harmony: list[Any] | None = None
    """[mode, agreement with Tier 1 0–1, divergence of the blend, ids Tier 2 would have shown where it did not]."""

    def to_list(self) -> list[Any]:
        """A list of plain values, the journal's form."""
        s = self.score
        return [
            self.campaign,
            [i.to_list() for i in self.items],
            [[slot.candidates, slot.propensities, slot.drawn] for slot in self.slots],
            self.segments, self.layout, self.media,
            None if s is None else [s.value, s.recency, s.depth, s.conversion, list(s.weights), s.stage],
            self.conversion, self.churn, self.next_offer, self.next_uplift, self.model, self.arm, self.holdout,
            self.variants, self.rung, self.reason,
            [[v.offer, v.reason, v.p, v.uplift, v.worth, v.detail] for v in self.verdicts],
            self.memberships, self.assignments, self.served, self.plain, self.trial, self.harmony,
        ]  # fmt: skip

    @classmethod
    def from_list(cls, row: list[Any]) -> Decision:
        """Read `to_list` back."""
        decision = cls(*row)
        decision.items = [Item(*i) for i in row[1]]
        decision.slots = [Slot(*slot) for slot in row[2]]
        s = row[6]
        decision.score = None if s is None else Score(s[0], s[1], s[2], s[3], Weights(*s[4]), s[5])
        decision.verdicts = [Verdict(*v) for v in row[17]]
        return decision

    def _next(self) -> dict[str, Any]:
        """The next best action: the offer that is worth most, and whether it is better than to wait."""
        best = next((v for v in self.verdicts if v.offer == self.next_offer), None)
        if best is None:
            return {"action": "wait", "offer": None, "uplift": None, "p": None, "worth": None}
        action = "show" if best.worth is not None and best.worth > 0.0 else "wait"
        return {"action": action, "offer": best.offer, "uplift": self.next_uplift, "p": best.p, "worth": best.worth}

    def response(self, root: str, placement: str, decision_id: str | None) -> dict[str, Any]:
        """The body of `POST /v1/decide`; `decision_id` is None for an answer that could not be recorded."""
        s, harmony = self.score, self.harmony
        return {
            "decisionId": decision_id,
            "recorded": decision_id is not None,
            "profileId": profile_id(root),
            "placement": placement,
            "campaign": self.campaign,
            "items": [
                {"id": i.id, "kind": i.kind, "content": i.content, "score": i.score,
                 "propensity": i.propensity, "reason": i.reason}
                for i in self.items
            ],
            "segments": self.segments,
            "treatment": {"layout": self.layout, "media": self.media},
            "score": None if s is None else {
                "value": s.value, "recency": s.recency, "depth": s.depth, "conversion": s.conversion,
                "weights": dict(zip(WEIGHTS, s.weights, strict=True)), "stage": s.stage,
            },
            "risk": {"conversion": self.conversion, "churn": self.churn},
            "next": self._next(),
            "model": {"version": self.model, "arm": self.arm},
            "holdout": self.holdout,
            "variants": self.variants,
            "degraded": None if self.rung == "model" else {"rung": self.rung, "reason": self.reason},
            "reason": self.plain,
            **({} if harmony is None else {"tier1": dict(zip(HARMONY, harmony, strict=True))}),
        }  # fmt: skip
