"""Why each offer of the book was shown or not: first failed clause, window, stock, cap, budget, worth, propensity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.compiled import CompiledBook, CompiledCampaign
from engine.decision import Decision, Verdict

TEXTS: Final[dict[str, str]] = {
    "CHOSEN": "shown",
    "NOT_DRAWN": "eligible, but the policy drew another",
    "SLOTS_FULL": "eligible, but there was no room for an offer",
    "CONDITION": "its condition does not hold",
    "WINDOW": "outside its window",
    "STOCK": "it is about a product that cannot be offered",
    "CAP": "counted for this visitor as often as its cap allows",
    "COOL_DOWN": "shown to this visitor too recently",
    "BUDGET": "its budget has nothing left here now",
    "ALREADY_SHOWN": "already on this page view",
    "HOLDOUT": "the visitor is in the holdout and is never shown offers",
    "NOT_RECORDED": "it is capped, budgeted or redeemed, and this answer could not be recorded",
    "FORCED": "quality assurance forced another",
    "STAGED": "staged: shown with a preview token alone",
    "DRAFT": "a draft: shown to nobody",
}
Told = dict[str, Any]


def explain_offers(campaign: CompiledCampaign, decision: Decision, facts: Mapping[str, Any]) -> list[Told]:
    """Every offer of the campaign that decided, drafts and staged ones included."""
    told = [_verdict(campaign, verdict, decision, facts) for verdict in decision.verdicts]
    known = {verdict.offer for verdict in decision.verdicts}
    told += [_unseen(offer.name, "STAGED") for offer in campaign.offers if offer.name not in known]
    return told + [_unseen(name, "DRAFT") for name in campaign.drafts]


def explain_others(book: CompiledBook, decision: Decision, placement: str) -> list[Told]:
    """The other campaigns of the book with their offers, and why they did not decide here."""
    own = book.campaign(decision.campaign)
    return [
        {"campaign": other.name, "text": _why_not(other, own, placement), "offers": [o.name for o in other.offers]}
        for other in [*book.campaigns.values(), *book.staged.values()]
        if own is None or other.name != own.name
    ]


def _why_not(other: CompiledCampaign, own: CompiledCampaign | None, placement: str) -> str:
    if placement not in other.placements:
        return f"it does not list the placement {placement}"
    if own is None or other.priority == own.priority:
        return "of equal priority, and the visitor scores higher in the one that decided"
    if other.priority < own.priority:
        return f"its priority {other.priority} is below {own.priority}"
    return "another campaign was asked for by name, or this one is staged"


def _verdict(campaign: CompiledCampaign, verdict: Verdict, decision: Decision, facts: Mapping[str, Any]) -> Told:
    told: Told = {
        "offer": verdict.offer, "reason": verdict.reason, "text": TEXTS[verdict.reason],
        "p": verdict.p, "uplift": verdict.uplift, "worth": verdict.worth,
        "propensity": propensity(decision, verdict.offer),
    }  # fmt: skip
    if verdict.detail is not None:
        told["text"] = f"{told['text']}: {verdict.detail}"
    offer = campaign.offer_by_name.get(verdict.offer)
    if verdict.reason == "CONDITION" and offer is not None:
        failed = offer.condition.first_failed(facts)
        if failed is not None:
            told["failed"] = failed.to_dict()
            told["text"] = f"{told['text']}: {failed.text()}"
    return told


def _unseen(name: str, reason: str) -> Told:
    return {
        "offer": name, "reason": reason, "text": TEXTS[reason], "p": None, "uplift": None, "worth": None,
        "propensity": None,
    }  # fmt: skip


def propensity(decision: Decision, offer: str) -> float | None:
    """The probability with which an offer was drawn, or last could have been; None where it was no candidate."""
    found = None
    for slot in decision.slots:
        if offer in slot.candidates:
            found = slot.propensities[slot.candidates.index(offer)]
    return found
