"""The complete explanation of a decision, derived from its record on demand."""

from __future__ import annotations

from typing import Any, Final

from engine.assess import read_visitor, stage_and_score, update_segments
from engine.compiled import CompiledCampaign
from engine.decision import Decision, Verdict
from engine.inputs import Inputs
from engine.world import CHALLENGER, World

TEXTS: Final[dict[str, str]] = {
    "CHOSEN": "shown",
    "NOT_DRAWN": "eligible, but the policy drew another",
    "SLOTS_FULL": "eligible, but there was no room for an offer",
    "CONDITION": "its condition does not hold",
    "CAP": "shown to this visitor as often as its cap allows",
    "COOL_DOWN": "shown to this visitor too recently",
    "BUDGET": "it has a budget, and budgets are not served by this version",
    "ALREADY_SHOWN": "already on this page view",
    "HOLDOUT": "the visitor is in the holdout and is never shown offers",
    "NOT_RECORDED": "it is capped, and this answer could not be recorded",
    "CONSENT": "the visitor has not consented to personalisation: Tier 1's order",
    "BOT": "a bot: Tier 1's order, and it counts nowhere",
    "DEGRADED": "answered without the profile: Tier 1's order",
    "APPRENTICE": "Tier 1 is served unchanged; what Tier 2 would have done is recorded",
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
    campaign = world.book.campaigns.get(decision.campaign or "")
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
    told["offers"] = [_offer(campaign, verdict, reading.facts) for verdict in decision.verdicts]
    told["draws"] = [
        {"drawn": slot.drawn or None, "propensities": dict(zip(slot.candidates, slot.propensities, strict=True))}
        for slot in decision.slots
    ]
    return told


def _offer(campaign: CompiledCampaign, verdict: Verdict, facts: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "offer": verdict.offer, "reason": verdict.reason, "text": TEXTS[verdict.reason],
        "p": verdict.p, "uplift": verdict.uplift, "worth": verdict.worth,
    }  # fmt: skip
    offer = next((o for o in campaign.offers if o.name == verdict.offer), None)
    if verdict.reason == "CONDITION" and offer is not None:
        failed = offer.condition.first_failed(facts)
        if failed is not None:
            told["failed"] = failed.to_dict()
            told["text"] = f"{told['text']}: {failed.text()}"
    return told


def _summary(decision: Decision) -> str:
    if decision.plain is not None:
        return TEXTS[decision.plain]
    shown = [item.id for item in decision.items if item.kind == "offer"]
    if shown:
        return "shown: " + ", ".join(shown)
    if decision.slots:
        return "no offer was drawn: showing none was worth as much, or was explored"
    return "no offer is eligible now"
