"""The book made ready: conditions, templates, weights and variants computed once, so that a decision only looks up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from zoneinfo import ZoneInfo

from engine.book_checks import segment_order, segments_named
from engine.book_model import DEFAULT_CHURN_HORIZON_MS, DEFAULT_WEIGHTS, BookModel, Campaign, Offer
from engine.book_paths import override
from engine.conditions import Compiled, compile_condition
from engine.facts import FactsRead
from engine.geo import Fence
from engine.layers import Place, places_in_layers
from engine.offer_times import MAX_TIMES
from engine.schema import STAGES, offer_code
from engine.score import Weights
from engine.segments import CompiledSegment
from engine.supply import IN_CART, IN_VIEW
from engine.templates import Template
from engine.terms import FEWEST_TIMES, NEEDS_NOTHING, SERVINGS, CompiledBudget, Needs, Terms, terms_of
from engine.tier1_model import Tier1

DEFAULT_EPSILON: Final = 0.1


@dataclass(frozen=True, slots=True)
class Value:
    """What a conversion is worth: a share of the cart (1 = revenue) or a fixed amount, in the book's currency."""

    kind: str
    fixed: float
    share: float
    basket: float

    def amount(self, cart_value: float | None, margin: float | None = None) -> float:
        """For this cart; an empty or unpriced one counts as `basket`. `margin` is the catalogue's, if known."""
        if self.kind == "fixed":
            return self.fixed
        if margin is not None and self.kind == "margin":
            return margin
        return self.share * (cart_value if cart_value is not None and cart_value > 0.0 else self.basket)


@dataclass(frozen=True, slots=True)
class CompiledOffer:
    """An offer ready to be judged. `key` is `campaign.offer`; caps and terms are None where there are none."""

    name: str
    key: str
    code: int
    condition: Compiled
    content: Template
    value: Value
    cost: float
    priority: int
    cap_max: int | None
    cap_per_ms: int
    cool_down_ms: int
    terms: Terms | None = None

    @property
    def budgeted(self) -> bool:
        """Whether it has a budget."""
        return self.terms is not None and self.terms.budget is not None


@dataclass(frozen=True, slots=True)
class CompiledExperiment:
    """An experiment and the campaign of each variant; `place` is its part of the visitors of its layer."""

    name: str
    key: str
    place: Place
    variants: dict[str, CompiledCampaign]


@dataclass(frozen=True, slots=True)
class CompiledCampaign:
    """A campaign ready to decide. Segments stand in evaluation order, offers in the order of the book."""

    name: str
    priority: int
    placements: frozenset[str]
    weights: Mapping[str, Weights]
    lapsing_above: float
    segments: tuple[CompiledSegment, ...]
    offers: tuple[CompiledOffer, ...]
    policy: str
    epsilon: float
    holdout_share: float
    conversion_kind: str
    conversion_within_ms: int
    conversion_value: Value
    tier1: Tier1
    experiments: tuple[CompiledExperiment, ...] = ()
    segment_priority: Mapping[str, int] = field(default_factory=dict)
    offer_by_name: Mapping[str, CompiledOffer] = field(default_factory=dict)
    drafts: tuple[str, ...] = ()

    def variant(self, draw: Callable[[str], float]) -> tuple[CompiledCampaign, CompiledExperiment | None, str | None]:
        """The campaign this visitor gets, with the experiment and the variant, if any.

        `draw(salt)` is the visitor's own stable number in [0, 1) for a salt. A visitor is in at most one experiment
        of a campaign; its variants have equal parts.
        """
        if not self.experiments:
            return self, None, None
        # All experiments of a campaign stand in one layer.
        layer = draw(self.experiments[0].place.salt)
        for experiment in self.experiments:
            if experiment.place.low <= layer < experiment.place.high:
                names = list(experiment.variants)
                index = min(int(draw(experiment.key) * len(names)), len(names) - 1)
                return experiment.variants[names[index]], experiment, names[index]
        return self, None, None


@dataclass(frozen=True, slots=True)
class CompiledBook:
    """A whole book in force. Campaigns that are not enabled are left out, but their placements stay known."""

    version: str
    currency: str
    timezone: ZoneInfo
    geofences: Mapping[str, Fence]
    campaigns: Mapping[str, CompiledCampaign]
    by_placement: Mapping[str, tuple[CompiledCampaign, ...]]
    placements: frozenset[str]
    segment_keys: frozenset[str]
    lapsing_above: float
    staged: Mapping[str, CompiledCampaign] = field(default_factory=dict)
    """Campaigns that only a preview sees."""
    staged_by_placement: Mapping[str, tuple[CompiledCampaign, ...]] = field(default_factory=dict)
    """As `by_placement`, for a preview."""
    needs: Needs = NEEDS_NOTHING
    churn_horizon_ms: int = DEFAULT_CHURN_HORIZON_MS
    """After how long without a visit somebody has churned."""
    facts: FactsRead = field(default_factory=FactsRead)
    """What its conditions read."""

    def campaign(self, name: str | None) -> CompiledCampaign | None:
        """A campaign by name, staged or live."""
        return self.campaigns.get(name or "") or self.staged.get(name or "")


def build_campaigns(model: BookModel, data: Mapping[str, Any], version: str) -> CompiledBook:
    """Compile a typed book; `data` is what it was read from, which the variants of experiments change."""
    campaigns: dict[str, CompiledCampaign] = {}
    staged: dict[str, CompiledCampaign] = {}
    places = places_in_layers(model)
    for name, campaign in model.campaigns.items():
        if campaign.enabled and campaign.stage != "draft":
            compiled = _campaign(name, campaign, data["campaigns"][name], model)
            experiments = tuple(_experiments(name, campaign, data["campaigns"][name], model, places))
            into = campaigns if campaign.stage == "live" else staged
            into[name] = replace(compiled, experiments=experiments)
    placements = {place for campaign in model.campaigns.values() for place in campaign.placements}
    ranked, both = _ranked(campaigns.values()), _ranked([*campaigns.values(), *staged.values()])
    return CompiledBook(
        version=version,
        currency=model.currency,
        timezone=ZoneInfo(model.timezone),
        geofences={name: fence.shape() for name, fence in model.geofences.items()},
        campaigns=campaigns,
        by_placement={place: tuple(c for c in ranked if place in c.placements) for place in placements},
        placements=frozenset(placements),
        segment_keys=frozenset(segment.key for c in campaigns.values() for segment in c.segments),
        lapsing_above=model.lapsing.churn_above,
        churn_horizon_ms=model.lapsing.horizon_ms,
        staged=staged,
        staged_by_placement={place: tuple(c for c in both if place in c.placements) for place in placements},
        needs=_needs(both, model.margin_share),
        facts=FactsRead(_features_named(both)),
    )


def _ranked(campaigns: Iterable[CompiledCampaign]) -> list[CompiledCampaign]:
    return sorted(campaigns, key=lambda campaign: (-campaign.priority, campaign.name))


def _with_variants(campaign: CompiledCampaign) -> Iterable[CompiledCampaign]:
    return (campaign, *(variant for e in campaign.experiments for variant in e.variants.values()))


def _features_named(campaigns: Iterable[CompiledCampaign]) -> Iterable[str]:
    for campaign in (one for c in campaigns for one in _with_variants(c)):
        conditions = [*(s.condition for s in campaign.segments), *(o.condition for o in campaign.offers)]
        for condition in conditions:
            yield from condition.features()


def _needs(campaigns: Iterable[CompiledCampaign], margin_share: float) -> Needs:
    budgets: dict[str, dict[str, CompiledBudget]] = {}
    products: set[str] = set()
    counted, n_times = False, FEWEST_TIMES
    for campaign in campaigns:
        for offer in (offer for one in _with_variants(campaign) for offer in one.offers):
            terms = offer.terms
            n_times = max(n_times, min(offer.cap_max or 0, MAX_TIMES))
            if terms is None:
                continue
            if terms.product is not None and terms.product not in (IN_VIEW, IN_CART):
                products.add(terms.product)
            counted |= terms.counted != SERVINGS
            if terms.budget is not None:
                for place in campaign.placements:
                    budgets.setdefault(place, {}).setdefault(offer.key, terms.budget)
    by_placement = {place: tuple(by.values()) for place, by in budgets.items()}
    by_offer = {key: budget for by in budgets.values() for key, budget in by.items()}
    return Needs(by_placement, frozenset(products), counted, margin_share, by_offer, n_times)


def _campaign(name: str, spec: Campaign, raw: Mapping[str, Any], book: BookModel) -> CompiledCampaign:
    default = spec.score.weights.get("default", DEFAULT_WEIGHTS)
    by_stage = {stage: spec.score.weights.get(stage, default) for stage in STAGES}
    written = {offer_name: offer for offer_name, offer in spec.offers.items() if offer.stage != "draft"}
    offers = tuple(_offer(name, offer_name, offer, spec, book) for offer_name, offer in written.items())
    segments = tuple(_segments(name, spec, raw))
    return CompiledCampaign(
        name=name,
        priority=spec.priority,
        placements=frozenset(spec.placements),
        weights={stage: Weights(w.recency, w.depth, w.conversion) for stage, w in by_stage.items()},
        lapsing_above=(spec.lapsing or book.lapsing).churn_above,
        segments=segments,
        offers=offers,
        policy=spec.policy.kind,
        epsilon=_epsilon(spec),
        holdout_share=spec.holdout.share,
        conversion_kind=spec.conversion.kind,
        conversion_within_ms=spec.conversion.within_ms,
        conversion_value=_value(spec.conversion.value, book),
        tier1=spec.tier1,
        segment_priority={segment.name: segment.priority for segment in segments},
        offer_by_name={offer.name: offer for offer in offers},
        drafts=tuple(offer_name for offer_name in spec.offers if offer_name not in written),
    )


def _epsilon(spec: Campaign) -> float:
    if spec.policy.kind != "epsilon_greedy":
        return 0.0
    return DEFAULT_EPSILON if spec.policy.epsilon is None else spec.policy.epsilon


def _segments(campaign: str, spec: Campaign, raw: Mapping[str, Any]) -> Iterable[CompiledSegment]:
    written = raw.get("segments") or {}
    for name in segment_order(written)[0]:
        segment = spec.segments[name]
        refers = any(True for _ in segments_named(written[name]))
        condition = compile_condition(segment)
        yield CompiledSegment(name, f"{campaign}.{name}", condition, segment.hold_ms, segment.priority, refers)


def _offer(campaign: str, name: str, spec: Offer, of: Campaign, book: BookModel) -> CompiledOffer:
    cap = spec.caps.per_profile
    return CompiledOffer(
        name=name,
        key=f"{campaign}.{name}",
        code=offer_code(name),
        condition=compile_condition(spec.when),
        content=Template(spec.content, book.currency),
        value=_value(spec.value, book),
        cost=spec.cost,
        priority=spec.priority,
        cap_max=cap.max if cap else None,
        cap_per_ms=cap.per_ms if cap else 0,
        cool_down_ms=spec.caps.cool_down_ms,
        terms=terms_of(f"{campaign}.{name}", spec, of, book),
    )


def _value(worth: float | str, book: BookModel) -> Value:
    if isinstance(worth, str):
        return Value(worth, 0.0, book.margin_share if worth == "margin" else 1.0, book.basket)
    return Value("fixed", worth, 0.0, 0.0)


def _experiments(
    name: str, spec: Campaign, raw: Mapping[str, Any], book: BookModel, places: Mapping[str, Place]
) -> Iterable[CompiledExperiment]:
    for experiment_name, experiment in spec.experiments.items():
        key, variants = f"{name}.{experiment_name}", {}
        for variant, changes in experiment.variants.items():
            changed = override(raw, changes)
            variants[variant] = _campaign(name, Campaign.model_validate(changed), changed, book)
        yield CompiledExperiment(experiment_name, key, places[key], variants)
