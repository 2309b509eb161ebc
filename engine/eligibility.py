"""Which offers a visitor may be shown now, and for each other one the first reason why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.compiled import CompiledCampaign, CompiledOffer
from engine.decision import (
    ALREADY_SHOWN,
    BUDGET,
    CAP,
    CONDITION,
    COOL_DOWN,
    NOT_RECORDED,
    Verdict,
)
from engine.inputs import Inputs


def eligible_offers(
    campaign: CompiledCampaign, facts: Mapping[str, Any], inputs: Inputs, now_ms: int
) -> tuple[list[CompiledOffer], list[Verdict]]:
    """The offers that pass, and the verdict on each that does not."""
    passed: list[CompiledOffer] = []
    failed: list[Verdict] = []
    for offer in campaign.offers:
        reason = _refusal(offer, facts, inputs, now_ms)
        if reason is None:
            passed.append(offer)
        else:
            failed.append(Verdict(offer.name, reason))
    return passed, failed


def _refusal(offer: CompiledOffer, facts: Mapping[str, Any], inputs: Inputs, now_ms: int) -> str | None:
    if offer.budgeted:
        return BUDGET
    if not offer.condition.enter(facts):
        return CONDITION
    if offer.name in inputs.shown:
        return ALREADY_SHOWN
    if offer.cap_max is not None or offer.cool_down_ms:
        if not inputs.recordable:
            return NOT_RECORDED
        served = inputs.served.get(offer.key, ())
        if offer.cool_down_ms and served and now_ms - served[-1] < offer.cool_down_ms:
            return COOL_DOWN
        if offer.cap_max is not None and _within(served, now_ms - offer.cap_per_ms) >= offer.cap_max:
            return CAP
    return None


def _within(times: Sequence[int], since_ms: int) -> int:
    return sum(1 for t in times if t > since_ms)
