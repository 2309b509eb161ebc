"""The product: one pure function from what is known of a visitor to what to show them now, and why."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from engine.arms import arm_for, compared, takes_part
from engine.assess import (
    NO_WEIGHTS,
    Reading,
    known_segments,
    read_visitor,
    stage_and_score,
    update_segments,
)
from engine.compiled import CompiledCampaign, CompiledOffer
from engine.decision import (
    BEST,
    BOT,
    CHOSEN,
    CONSENT,
    DEGRADED,
    DRAWN,
    FORCED,
    HOLDOUT,
    NO_OFFERS,
    NOT_DRAWN,
    SLOTS_FULL,
    TIER1,
    Decision,
    Item,
    Slot,
)
from engine.eligibility import eligible_offers
from engine.forcing import force_campaign, force_offer, force_segments, forced_in, leave_no_trace
from engine.harmony import arrange, base_items
from engine.inputs import Inputs
from engine.policy import NONE, Candidate, Dice, draw, propensities
from engine.score import Score
from engine.sticky import bucket, holdout_key, variant_for
from engine.terms import Step, product_of
from engine.weighing import weigh
from engine.world import World


class Choice(NamedTuple):
    """What there is to choose from: the eligible offers, the candidates a policy weighs, the discounts they give."""

    offers: dict[str, CompiledOffer]
    candidates: list[Candidate]
    steps: dict[str, Step]
    sure: bool
    """Whether the first offer is shown whatever it is worth."""


_SLOW: Final = frozenset({"slow-2g", "2g", "3g"})
_FAST: Final = frozenset({"wifi", "ethernet", "5g"})


def decide(
    inputs: Inputs, world: World, *, now_ms: int, rng: Dice, rung: str = "model", why: str | None = None
) -> Decision:
    """What to show this visitor at this placement.

    Pure: the same inputs, world, time and dice give the same decision. `rung` is where on the ladder to begin
    (model → precomputed → rules → tier1) and `why` the reason if that is not the top. Never raises for the sake of
    a visitor's data or a model's output; the caller has checked that the placement exists.
    """
    if world.rollout is None or rung == "tier1" or not takes_part(inputs):
        return _decided(inputs, world, now_ms, rng, rung, why)
    own, assigned = arm_for(inputs, world, now_ms)
    decision = _decided(inputs, own, now_ms, rng, rung, why)
    if decision.holdout and own is not world:
        # Nobody is tried upon in a holdout, whose decision has thrown no dice.
        decision = _decided(inputs, world, now_ms, rng, rung, why)
        own = world
    if not decision.holdout:
        decision.trial = compared(decision, inputs, world, own)
        if assigned is not None:
            decision.assignments[world.rollout.key] = assigned
    return decision


def _decided(inputs: Inputs, world: World, now_ms: int, rng: Dice, rung: str, why: str | None) -> Decision:
    decision = Decision(model=world.model_version, arm=world.arm, rung=rung, reason=None if rung == "model" else why)
    decision.layout, decision.media = treatment(inputs.context)
    plain = _plain_reason(inputs, rung)
    forced, book = forced_in(inputs), world.book
    listed = (book.by_placement if forced is None else book.staged_by_placement).get(inputs.request.placement)
    if plain is None and not listed:
        plain = NO_OFFERS
    if plain is not None or not listed:
        return _tier1_only(decision, inputs, world, plain or NO_OFFERS, rung, why)
    reading = read_visitor(inputs, world, rung, why)
    decision.rung, decision.reason = reading.rung, reading.reason
    decision.conversion, decision.churn = reading.conversion, reading.churn
    if forced is not None:
        listed = force_campaign(listed, forced)
    campaign, found = _campaign(inputs, listed, reading)
    decision.score = found
    decision.campaign = campaign.name
    if forced is None:
        campaign = _assign(decision, campaign, inputs, now_ms)
    if decision.variants:
        found = decision.score = stage_and_score(reading, inputs, campaign)
    decision.memberships, decision.segments = update_segments(
        reading, campaign, found, known_segments(world.book, inputs.memberships), now_ms
    )
    if forced is not None:
        force_segments(decision, reading, forced)
    passed, decision.verdicts = eligible_offers(campaign, reading.facts, inputs, now_ms)
    if forced is not None:
        passed, decision.verdicts = force_offer(campaign, forced, passed, decision.verdicts)
    candidates, steps = weigh(decision, passed, inputs, world, reading)
    if decision.holdout:
        decision.plain = HOLDOUT
        for verdict in decision.verdicts:
            verdict.reason = HOLDOUT if verdict.reason == NOT_DRAWN else verdict.reason
        decision.items = base_items(inputs)
        return decision
    sure = forced is not None and forced.offer is not None
    _fill_slots(decision, campaign, Choice({o.name: o for o in passed}, candidates, steps, sure), inputs, now_ms, rng)
    if forced is not None:
        leave_no_trace(decision)
    return decision


def treatment(context: dict[str, Any]) -> tuple[str, str]:
    """Layout and media that suit the device and its network."""
    layout = "mobile_first" if context.get("device") == "mobile" else "standard"
    network = context.get("network")
    if context.get("save_data") or network in _SLOW:
        return layout, "low_bandwidth"
    return layout, "rich" if network in _FAST else "standard"


def _plain_reason(inputs: Inputs, rung: str) -> str | None:
    if inputs.bot:
        return BOT
    if not inputs.personalise:
        return CONSENT
    return DEGRADED if rung == "tier1" else None


def _tier1_only(decision: Decision, inputs: Inputs, world: World, plain: str, rung: str, why: str | None) -> Decision:
    # Nothing of the profile is read: neither a bot nor a visitor without consent has one here.
    decision.plain = plain
    decision.rung, decision.reason = (rung, why) if plain == DEGRADED else ("model", None)
    campaigns = world.book.by_placement.get(inputs.request.placement, ())
    weights = campaigns[0].weights["new"] if campaigns else NO_WEIGHTS
    decision.score = Score(0.0, 0.0, 0.0, 0.0, weights, "new")
    decision.campaign = campaigns[0].name if campaigns else None
    decision.items = base_items(inputs, plain if plain in (CONSENT, BOT) else TIER1)
    return decision


def _campaign(inputs: Inputs, listed: tuple[CompiledCampaign, ...], reading: Reading) -> tuple[CompiledCampaign, Score]:
    # Of equal priority, the campaign in which this visitor scores highest: the score ranks who is targeted by what.
    wanted = inputs.request.campaign
    if wanted is not None:
        listed = tuple(c for c in listed if c.name == wanted) or listed
    if len(listed) == 1:
        return listed[0], stage_and_score(reading, inputs, listed[0])
    top = [c for c in listed if c.priority == listed[0].priority]
    scored = [(c, stage_and_score(reading, inputs, c)) for c in top]
    campaign, _ = max(scored, key=lambda pair: pair[1].value)
    return campaign, stage_and_score(reading, inputs, campaign)


def _assign(decision: Decision, campaign: CompiledCampaign, inputs: Inputs, now_ms: int) -> CompiledCampaign:
    """Holdout and experiment, sticky: what was assigned before stays, else a hash of the visitor decides."""
    if campaign.holdout_share > 0.0:
        key = holdout_key(campaign.name)
        known = inputs.assignments.get(key)
        if known is None:
            known = [bucket(key, inputs.root) < campaign.holdout_share, now_ms]
            decision.assignments[key] = known
        decision.holdout = bool(known[0])
    changed, experiment, variant = variant_for(campaign, inputs)
    if experiment is not None and variant is not None:
        decision.variants[experiment.name] = variant
        if experiment.key not in inputs.assignments:
            decision.assignments[experiment.key] = [variant, now_ms]
    return changed


def _fill_slots(
    decision: Decision, campaign: CompiledCampaign, choice: Choice, inputs: Inputs, now_ms: int, rng: Dice
) -> None:
    limit, mode = inputs.request.limit, campaign.tier1.mode
    room = max(0, limit - len(inputs.request.base)) if mode == "fill" else limit
    chosen: list[Item] = []
    offers, candidates = choice.offers, choice.candidates
    while len(chosen) < room and len(candidates) > 1:
        if choice.sure:
            shares = [float(i == 1) for i in range(len(candidates))]
        else:
            shares = propensities(campaign.policy, candidates, campaign.epsilon)
        index = draw(shares, rng)
        decision.slots.append(Slot([c.offer for c in candidates], shares, candidates[index].offer))
        if candidates[index].offer == NONE:
            break
        drawn = candidates.pop(index)
        reason = FORCED if choice.sure else BEST if shares[index] == max(shares) else DRAWN
        chosen.append(_item(offers[drawn.offer], choice, drawn.worth, shares[index], reason, inputs, now_ms))
    _name_reasons(decision, chosen, room)
    if arrange(decision, campaign, chosen, inputs):
        decision.served = [offers[item.id].key for item in chosen]
    if not offers and not decision.items:
        decision.plain = NO_OFFERS


def _name_reasons(decision: Decision, chosen: list[Item], room: int) -> None:
    shown = {item.id for item in chosen}
    for verdict in decision.verdicts:
        if verdict.offer in shown:
            verdict.reason = CHOSEN
        elif verdict.reason == NOT_DRAWN and not room:
            verdict.reason = SLOTS_FULL


def _item(
    offer: CompiledOffer, choice: Choice, worth: float, share: float, reason: str, inputs: Inputs, now_ms: int
) -> Item:
    terms, values = offer.terms, _values(offer, inputs)
    if terms is None:
        return Item(offer.name, "offer", offer.content.render(values), worth, share, reason)
    step = choice.steps.get(offer.name)
    if step is not None:
        values["discount"] = {"amount": step.amount, "percent": round(100.0 * step.share), "price": step.price}
    product = product_of(terms, inputs.supply)
    if product is not None:
        values["catalogue"] = product._asdict()
    redeem_by_ms = None if terms.redeem_ms is None else now_ms + terms.redeem_ms
    content, off = offer.content.render(values), None if step is None else step.amount
    return Item(offer.name, "offer", content, worth, share, reason, redeem_by_ms, off)


def _values(offer: CompiledOffer, inputs: Inputs) -> dict[str, dict[str, Any]]:
    return {
        "cart": {"items": int(inputs.cart[0]), "value": inputs.cart[1]},
        "profile": inputs.traits,
        "offer": {"id": offer.name, "cost": offer.cost},
        "context": inputs.context,
    }
