"""What each eligible offer is worth to the shop with this visitor, and how sure that is."""

from __future__ import annotations

import math
from typing import Final

from engine.assess import Reading, offer_rows
from engine.compiled import CompiledOffer
from engine.decision import NOT_DRAWN, Decision, Verdict
from engine.discounts import steps_for
from engine.inputs import Inputs
from engine.policy import NONE, Candidate
from engine.posteriors import ANY, moved
from engine.served import offer_features, offer_worth
from engine.terms import Step
from engine.world import World

PRIOR_STRENGTH: Final = 50.0
"""Observations a prediction is trusted as, where a policy needs to know how sure it is."""

Option = tuple[CompiledOffer, float, float, Step | None]
"""An offer as it could be made: with what a conversion is worth, what it costs, and the discount it gives."""


def weigh(
    decision: Decision, passed: list[CompiledOffer], inputs: Inputs, world: World, reading: Reading
) -> tuple[list[Candidate], dict[str, Step]]:
    """Candidates with uplift × value − p(offer) × cost, none first, and the discount each one would give.

    The best known one becomes `next`. Of an offer's possible discounts the one that is worth most is weighed.
    """
    candidates = [Candidate(NONE, 0.0)]
    given: dict[str, Step] = {}
    if not passed:
        return candidates, given
    options = _options(passed, inputs)
    p_none = reading.conversion
    chances = _chances(options, inputs, world, reading)
    if len(options) > len(passed):
        # The prior assumes of every step that it earns its cost: no outcome has told them apart.
        untold = world.model is None or world.model.kind == "prior"
        options, chances = _best_steps(options, chances, None if untold else p_none)
    posteriors, segment = world.posteriors, decision.segments[0] if decision.segments else ANY
    if posteriors is not None and p_none is not None:
        p_none = moved(p_none, posteriors.shift(f"{decision.campaign}.", segment))
    best, strength = -math.inf, PRIOR_STRENGTH
    for (offer, value, cost, step), p in zip(options, chances, strict=True):
        if step is not None:
            given[offer.name] = step
        if p is None or p_none is None:
            # By rules alone: no probability, so the book's priority and what the offer is worth less its cost.
            candidates.append(Candidate(offer.name, max(value - cost, 1e-9), 0.0, offer.priority))
            decision.verdicts.append(Verdict(offer.name, NOT_DRAWN))
            continue
        likely = p
        if posteriors is not None:
            likely = moved(p, posteriors.shift(offer.key, segment))
            strength = PRIOR_STRENGTH + posteriors.of(offer.key, segment).n
        uplift = likely - p_none
        worth = uplift * value - likely * cost
        deviation = math.sqrt(max(likely * (1.0 - likely), 1e-12) / (strength + 1.0)) * abs(value - cost)
        candidates.append(Candidate(offer.name, worth, deviation, offer.priority))
        # `p` stays the model's own: it is what the model is judged by.
        decision.verdicts.append(Verdict(offer.name, NOT_DRAWN, p, uplift, worth))
        if worth > best:
            best, decision.next_offer, decision.next_uplift = worth, offer.name, uplift
    return candidates, given


def _options(passed: list[CompiledOffer], inputs: Inputs) -> list[Option]:
    options: list[Option] = []
    for offer in passed:
        value, terms = offer_worth(offer, inputs), offer.terms
        if terms is None or terms.discount is None:
            options.append((offer, value, offer.cost, None))
            continue
        options += [(offer, value, step.amount, step) for step in steps_for(offer, terms, terms.discount, inputs)]
    return options


def _chances(options: list[Option], inputs: Inputs, world: World, reading: Reading) -> list[float | None]:
    """The model's answer for each option, in one call; None where it gave no probability."""
    if reading.rung != "model" or world.model is None:
        return [None] * len(options)
    seen = inputs.times_served
    rows = offer_rows(reading.row, [offer_features(o, value, seen(o.key), cost) for o, value, cost, _ in options])
    try:
        found = world.model.predict_many(rows).tolist()
    except Exception:
        return [None] * len(options)
    return [p if 0.0 <= p <= 1.0 else None for p in found]


def _best_steps(
    options: list[Option], chances: list[float | None], p_none: float | None
) -> tuple[list[Option], list[float | None]]:
    """One option an offer; of equally good discounts, and where nothing is known, the smallest."""
    best: dict[str, tuple[float, int]] = {}
    for i, ((offer, value, cost, _), p) in enumerate(zip(options, chances, strict=True)):
        worth = -math.inf if p is None or p_none is None else (p - p_none) * value - p * cost
        if offer.name not in best or worth > best[offer.name][0]:
            best[offer.name] = worth, i
    kept = [i for _, i in best.values()]
    return [options[i] for i in kept], [chances[i] for i in kept]
