"""Decisions for quality assurance: what was forced is shown, and nothing of it counts."""

from __future__ import annotations

from engine.assess import Reading
from engine.compiled import CompiledCampaign, CompiledOffer
from engine.decision import FORCED, Decision, Verdict
from engine.inputs import Inputs
from engine.supply import Forced


def forced_in(inputs: Inputs) -> Forced | None:
    """What quality assurance asked for, None for a visitor's own decision."""
    return inputs.supply.forced if inputs.supply is not None else None


def force_campaign(listed: tuple[CompiledCampaign, ...], forced: Forced) -> tuple[CompiledCampaign, ...]:
    """The campaigns that have the offer that is forced, else all of them."""
    if forced.offer is None:
        return listed
    return tuple(c for c in listed if forced.offer in c.offer_by_name) or listed


def force_segments(decision: Decision, reading: Reading, forced: Forced) -> None:
    """Put the visitor into exactly these segments, for this decision alone."""
    if forced.segments is not None:
        decision.segments = list(forced.segments)
        reading.facts["segments"] = set(forced.segments)


def force_offer(
    campaign: CompiledCampaign, forced: Forced, passed: list[CompiledOffer], failed: list[Verdict]
) -> tuple[list[CompiledOffer], list[Verdict]]:
    """Only the offer that is forced, whatever its condition says; the others keep their reasons."""
    offer = campaign.offer_by_name.get(forced.offer or "")
    if offer is None:
        return passed, failed
    others = [Verdict(o.name, FORCED, detail=f"{offer.name} was") for o in passed if o is not offer]
    return [offer], [v for v in failed if v.offer != offer.name] + others


def leave_no_trace(decision: Decision) -> None:
    """Take every effect on the profile out of a decision."""
    decision.memberships, decision.assignments, decision.served = None, {}, []
