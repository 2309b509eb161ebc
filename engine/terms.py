"""The terms of an offer made ready: its budget, window, product, discount; what of it is counted, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from engine.book_model import BookModel, Campaign, Offer
from engine.catalogue import Product
from engine.offer_model import Budget, Discount
from engine.periods import Period, period_of
from engine.supply import IN_CART, IN_VIEW, Supply
from engine.templates import roots_named
from engine.windows import WEEKDAYS, Window, parse_local

SERVINGS, IMPRESSIONS, REDEMPTIONS, COST = "servings", "impressions", "redemptions", "cost"
SEEN_WITHIN_MS: Final = 30 * 60_000
"""An impression counts for a budget if it comes this soon after the decision; else the unit goes back."""
AHEAD: Final = 0.1
"""The share of a budget paced evenly that may be spent ahead of its time."""
MAX_STEPS: Final = 20


@dataclass(frozen=True, slots=True)
class CompiledBudget:
    """A budget of one offer. `hold_ms`: how long what a serving takes may still come back; 0, never."""

    key: str
    max: float
    unit: str
    per_ms: int | None
    even: bool
    hold_ms: int
    quantum: float
    """What one serving takes; 0 where that differs from visitor to visitor."""
    zone: ZoneInfo

    def period(self, now_ms: int) -> Period:
        """The period of a moment."""
        return period_of(now_ms, self.per_ms, self.zone)

    def limit(self, now_ms: int, period: Period) -> float:
        """How much may have been taken by now: all of it, or the part of it whose time has come."""
        if not self.even or self.per_ms is None:
            return self.max
        return self.max * min(1.0, period.elapsed(now_ms) + AHEAD)

    def account(self, period: Period) -> str:
        """The name of the account of one period in the ledger."""
        return f"{self.prefix}{period.start_ms}"

    @property
    def prefix(self) -> str:
        """How the names of its accounts begin: by another unit or period another account is kept."""
        return f"{self.key}/{self.unit}/{self.per_ms or 0}@"


class Step(NamedTuple):
    """One discount that may be given: an amount of money, and what it is of the price; the price it leaves."""

    amount: float
    share: float
    price: float


@dataclass(frozen=True, slots=True)
class CompiledDiscount:
    """A discount's steps as shares of margin or price, the smallest first."""

    shares: tuple[float, ...]
    of_margin: bool
    margin_share: float

    def steps(self, price: float, margin: float | None) -> list[Step]:
        """The amounts for a price; margin None is the book's share of it. None where there is no price."""
        if price <= 0.0:
            return []
        base = (self.margin_share * price if margin is None else margin) if self.of_margin else price
        amounts = [round(share * base, 2) for share in self.shares]
        return [Step(amount, amount / price, round(price - amount, 2)) for amount in amounts if 0.0 < amount <= price]


@dataclass(frozen=True, slots=True)
class Terms:
    """What an offer has beyond condition, content and caps; an offer without any has no terms at all.

    `product` is `in_view`, `in_cart` or an id; `bound`: without that product in stock it is not offered, else only a
    product that is out of stock keeps it back.
    """

    budget: CompiledBudget | None = None
    window: Window | None = None
    product: str | None = None
    bound: bool = False
    discount: CompiledDiscount | None = None
    redeem_ms: int | None = None
    staged: bool = False
    counted: str = SERVINGS


NO_TERMS: Final = Terms()


FEWEST_TIMES: Final = 8
"""So many in any case, for a dry run of a book with higher caps."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be looked up beside the profile for a decision: budgets by placement, products, counted sights."""

    budgets: Mapping[str, tuple[CompiledBudget, ...]]
    products: frozenset[str]
    """Products named by id, beside those in view and in the cart."""
    counted: bool
    """Whether a cap counts impressions or redemptions."""
    margin_share: float = 0.0
    """What of a price is margin where the catalogue does not say."""
    by_offer: Mapping[str, CompiledBudget] = field(default_factory=dict)
    n_times: int = FEWEST_TIMES
    """How many of the times at which an offer was served are read and recorded: what the highest cap asks for."""


NEEDS_NOTHING: Final = Needs({}, frozenset(), counted=False)


def compile_budget(spec: Budget, key: str, hold_ms: int, cost: float, zone: ZoneInfo) -> CompiledBudget:
    """A budget; what a serving takes stays out for `hold_ms` where it is counted by what may follow it."""
    held = 0 if spec.unit == SERVINGS else SEEN_WITHIN_MS if spec.unit == IMPRESSIONS else hold_ms
    quantum = cost if spec.unit == COST else 1.0
    return CompiledBudget(key, spec.max, spec.unit, spec.per_ms, spec.pace == "even", held, quantum, zone)


def compile_window(
    start: str | None, until: str | None, hours: tuple[float, float] | None, weekdays: frozenset[int] | None,
    visitors: bool, zone: ZoneInfo,
) -> Window:  # fmt: skip
    """A window whose parts have been checked."""
    first = None if start is None else parse_local(start)
    return Window(zone, visitors, first, None if until is None else parse_local(until, last=True), hours, weekdays)


def compile_discount(spec: Discount, margin_share: float) -> CompiledDiscount:
    """The steps from `min` to `max`; `max` itself is always one of them."""
    n = min(MAX_STEPS - 1, int((spec.max - spec.min) / spec.step + 1e-9))
    shares = [round(spec.min + i * spec.step, 6) for i in range(n + 1)]
    if spec.max - shares[-1] > 1e-9:
        shares.append(spec.max)
    return CompiledDiscount(tuple(shares), spec.of == "margin", margin_share)


def terms_of(key: str, spec: Offer, campaign: Campaign, book: BookModel) -> Terms | None:
    """The terms of an offer; None where it has none beside condition, content and caps."""
    zone, cap, window = ZoneInfo(book.timezone), spec.caps.per_profile, spec.window
    redeem_ms = spec.redemption.valid_ms if spec.redemption else None
    hold_ms = redeem_ms or (campaign.conversion.within_ms if spec.budget and spec.budget.unit == "redemptions" else 0)
    roots = roots_named(spec.content)
    about = IN_VIEW if spec.product is None and (spec.discount or "catalogue" in roots) else spec.product
    days = None if window is None or window.weekdays is None else frozenset(map(WEEKDAYS.index, window.weekdays))
    terms = Terms(
        budget=compile_budget(spec.budget, key, hold_ms, spec.cost, zone) if spec.budget else None,
        window=compile_window(window.start, window.until, window.hours, days, window.clock == "visitor", zone)
        if window else None,
        product=about,
        bound=spec.product is not None,
        discount=compile_discount(spec.discount, book.margin_share) if spec.discount else None,
        redeem_ms=redeem_ms,
        staged=spec.stage == "staged",
        counted=cap.count if cap else SERVINGS,
    )  # fmt: skip
    return None if terms == NO_TERMS else terms


def product_of(terms: Terms, supply: Supply | None) -> Product | None:
    """The product an offer is about with this visitor: the one it names, else the one in view, else in the cart."""
    if supply is None or terms.product is None:
        return None
    product = supply.products.get(terms.product)
    return supply.products.get(IN_CART) if product is None and not terms.bound else product


def missing_product(terms: Terms, supply: Supply | None) -> str | None:
    """Why an offer that is about a product cannot be made, in words; None where it can."""
    product = product_of(terms, supply)
    if product is None:
        if not terms.bound:
            return None
        where = {IN_VIEW: "in view", IN_CART: "in the cart"}.get(terms.product or "")
        return f"no product of the catalogue is {where}" if where else f"the catalogue has no product {terms.product}"
    return None if product.available else f"{product.id} is out of stock"
