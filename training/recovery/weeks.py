"""The weeks themselves: the same shoppers live them once under each arm, with the same dice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from engine.book import compile_book, load_book
from engine.book_paths import override
from engine.compiled import CompiledBook
from engine.prior import PriorModel
from engine.simulation import Send, Truth
from engine.simulation import World as Shop
from engine.simulation.steps import Reply
from engine.world import World
from training.recovery.arms import Arm, Engine, NoOffers, Oracle, TrueModel, Unbound, addressed
from training.recovery.funnel import Session
from training.recovery.kiosk import Kiosk, ReadContext
from training.recovery.school import School

HOUR_MS: Final = 3_600_000
WEEK_HOURS: Final = 7 * 24
WEEK_MS: Final = WEEK_HOURS * HOUR_MS
START_MS: Final = 1_789_948_800_000
"""A Monday, 00:00 UTC."""
ARMS: Final = ("engine", "rules", "always", "holdout", "oracle", "unbound")
"""`rules`: the seed's two, free shipping for iOS near checkout and a discount for Android with a cart history.
`always`: the same, and the reminder for every other cart at risk: something for everybody.
`oracle`: the same campaign by one who knows the truth. `unbound`: the truth alone, without segments and caps."""
RULES: Final = {"free_shipping": 3, "android_discount": 2}
"""The offers of the seed's rules, with the priority they have as rules."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated: `n_visitors` new shoppers spread over the weeks, and the seed of every die."""

    n_visitors: int
    weeks: int = 6
    seed: int = 1
    campaign: str = "cart_recovery"


@dataclass(slots=True)
class Lived:
    """What came of one arm: sessions by shopper and visit, of those whom the campaign may address."""

    sessions: dict[tuple[int, int], Session] = field(default_factory=dict)
    temper: dict[int, str] = field(default_factory=dict)
    held_out: frozenset[int] = frozenset()
    n_models: int = 0


def live(plan: Plan, arm_name: str, data: dict[str, Any], read_context: ReadContext,
         told: Callable[[str, int], None] | None = None) -> Lived:  # fmt: skip
    """All weeks under one arm. `data` is the campaign book; `told` hears of each week that is over."""
    truth = Truth()
    arm, school = _arm(plan, arm_name, data, truth, read_context)
    lived, hour = Lived(), 0
    steps = Shop(plan.seed, truth, per_day=plan.n_visitors / (7 * plan.weeks)).steps(START_MS)
    reply: Reply = None
    while (step := steps.send(reply)).t_ms < START_MS + plan.weeks * WEEK_MS:
        reply = None
        while step.t_ms >= START_MS + (hour + 1) * HOUR_MS:
            arm.learn(hour, START_MS + (hour + 1) * HOUR_MS)
            hour += 1
            if told is not None and hour % WEEK_HOURS == 0:
                told(arm_name, hour // WEEK_HOURS)
        week = hour // WEEK_HOURS
        if isinstance(step, Send):
            arm.sees(step)
            key = _visit_of(step)
            session = lived.sessions.get(key)
            if session is None:
                session = lived.sessions[key] = Session(week)
            session.see(step.event)
            continue
        reply = arm.answers(step)
        key = step.shopper.index, step.visit
        if addressed(step):
            lived.temper[step.shopper.index] = truth.temper(step.shopper).name
            if key in lived.sessions:
                lived.sessions[key].ask(None if reply is None else reply.offer)
                lived.sessions[key].mobile = True
    lived.sessions = {key: one for key, one in lived.sessions.items() if one.mobile}
    if isinstance(arm, Engine):
        lived.held_out = frozenset(index for index, held in arm.held_out.items() if held)
    lived.n_models = 0 if school is None else len(school.models)
    return lived


def _visit_of(step: Send) -> tuple[int, int]:
    # Refunds come days later and belong to the visit that they pay back.
    _, index, visit, _ = str(step.event["messageId"]).rsplit("-", 3)
    return int(index), int(visit)


def _arm(
    plan: Plan, name: str, data: dict[str, Any], truth: Truth, read_context: ReadContext
) -> tuple[Arm, School | None]:
    if name == "holdout":
        return NoOffers(), None
    if name == "unbound":
        return Unbound(truth, tuple(data["campaigns"][plan.campaign]["offers"])), None
    if name == "oracle":
        known = free_book(data, plan.campaign)
        model = TrueModel(truth, known.campaigns[plan.campaign])
        return Oracle(Kiosk(World(known, model), read_context, None, plan.seed), model), None
    if name in ("rules", "always"):
        # A world without a model answers by the book's conditions and priorities alone.
        world = World(rule_book(data, plan.campaign, everybody=name == "always"), None)
        return Engine(Kiosk(world, read_context, None, plan.seed)), None
    book = compile_book(load_book(data), "b1")
    school = School(book, plan.seed)
    kiosk = Kiosk(World(book, PriorModel()), read_context, school.hear, plan.seed)
    return Engine(kiosk, school), school


def rule_book(data: dict[str, Any], campaign: str, *, everybody: bool) -> CompiledBook:
    """The same segments and offers as fixed rules: the first that fits by priority, no holdout, no experiment."""
    offers = {n: offer for n, offer in data["campaigns"][campaign]["offers"].items() if everybody or n in RULES}
    changes = {f"offers.{name}.priority": RULES[name] for name in offers if name in RULES}
    return _greedy_book(data, campaign, offers, changes)


def free_book(data: dict[str, Any], campaign: str) -> CompiledBook:
    """The same segments, offers and caps, where conversions alone count: offers are free, a conversion is worth 1."""
    offers = data["campaigns"][campaign]["offers"]
    changes = {f"offers.{name}.{key}": value for name in offers for key, value in (("cost", 0), ("value", 1))}
    return _greedy_book(data, campaign, offers, changes)


def _greedy_book(data: dict[str, Any], campaign: str, offers: dict[str, Any], changes: dict[str, Any]) -> CompiledBook:
    kept = {key: value for key, value in data["campaigns"][campaign].items() if key not in ("experiments", "holdout")}
    changed = override({**kept, "offers": offers}, {"policy": {"kind": "greedy"}, **changes})
    return compile_book(load_book({**data, "campaigns": {campaign: changed}}), "b1")


def shown_by_temper(lived: Lived) -> dict[str, Counter[str]]:
    """How often each offer was shown to each hidden type of shopper."""
    found: dict[str, Counter[str]] = {}
    for (index, _), session in lived.sessions.items():
        for offer in session.offers:
            found.setdefault(offer, Counter())[lived.temper[index]] += 1
    return found


def without(lived: Lived, indices: frozenset[int]) -> Lived:
    """The same without some shoppers."""
    return replace(lived, sessions={key: one for key, one in lived.sessions.items() if key[0] not in indices})
