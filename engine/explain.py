"""The complete explanation of a decision, derived from its record on demand."""

from __future__ import annotations

from typing import Any, Final

from engine.assess import read_visitor, stage_and_score, update_segments
from engine.decision import Decision
from engine.explain_offers import TEXTS, explain_offers, explain_others
from engine.inputs import Inputs
from engine.world import CHALLENGER, World

PLAIN_TEXTS: Final[dict[str, str]] = {
    **TEXTS,
    "CONSENT": "the visitor has not consented to personalisation: Tier 1's order",
    "BOT": "a bot: Tier 1's order, and it counts nowhere",
    "DEGRADED": "answered without the profile: Tier 1's order",
    "APPRENTICE": "Tier 1 is served unchanged; what Tier 2 would have done is recorded",
    "DIVERGED": "Tier 2's order departs further from Tier 1's than the campaign allows: Tier 1 is served",
    "NO_OFFERS": "no offer is eligible and Tier 1 suggested nothing",
}

TRIAL: Final = ("rollout", "stage", "arm", "pChampion", "pChallenger")
"""What a decision says of its trial; the probabilities are those of the row served, null where a model gave none."""


def explain(inputs: Inputs, world: World, decision: Decision, now_ms: int) -> dict[str, Any]:
    """Why this answer: each segment clause by clause, each offer of the campaign, each draw, the score's parts.

    `world` must be of the versions the decision names, with the rollout it took part in. JSON-ready.
    """
    told: dict[str, Any] = {"reason": decision.plain, "text": _summary(decision), "arm": decision.arm}
    if decision.trial is not None:
        told["trial"] = dict(zip(TRIAL, decision.trial, strict=True))
    if decision.arm == CHALLENGER and world.side is not None:
        world = world.side
    campaign = world.book.campaign(decision.campaign)
    if campaign is None or decision.plain in ("CONSENT", "BOT", "DEGRADED"):
        return told
    if decision.variants:
        (name, variant), *_ = decision.variants.items()
        campaign = next(e for e in campaign.experiments if e.name == name).variants[variant]
    reading = read_visitor(inputs, world, decision.rung, decision.reason)
    found = stage_and_score(reading, inputs, campaign)
    told["score"] = {
        "value": found.value,
        "terms": {
            "recency": found.weights.recency * found.recency,
            "depth": found.weights.depth * found.depth,
            "conversion": found.weights.conversion * found.conversion,
        },
        "stage": found.stage,
    }
    before = inputs.memberships
    after, _ = update_segments(reading, campaign, found, before, now_ms)
    told["segments"] = [
        {
            "name": s.name,
            "member": s.key in after,
            "since_ms": after[s.key][0] if s.key in after else None,
            "clauses": [{**c.to_dict(), "text": c.text()} for c in s.explain(reading.facts, before)],
        }
        for s in campaign.segments
    ]
    told["offers"] = explain_offers(campaign, decision, reading.facts)
    told["other_campaigns"] = explain_others(world.book, decision, inputs.request.placement)
    told["draws"] = [
        {"drawn": slot.drawn or None, "propensities": dict(zip(slot.candidates, slot.propensities, strict=True))}
        for slot in decision.slots
    ]
    return told


def _summary(decision: Decision) -> str:
    if decision.plain is not None:
        return PLAIN_TEXTS[decision.plain]
    shown = [item.id for item in decision.items if item.kind == "offer"]
    if shown:
        return "shown: " + ", ".join(shown)
    if decision.slots:
        return "no offer was drawn: showing none was worth as much, or was explored"
    return "no offer is eligible now"
