"""What the weeks show: recovery by arm, differences with any-time-valid intervals, the share of the oracle's gain."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.recovery.funnel import counts
from training.recovery.weeks import ARMS, Lived, Plan, shown_by_temper, without
from training.sequences import Running, contrast, interval

ALPHA: Final = 0.05
SEED_CLAIM: Final = 0.28
"""The increase of the recovery rate that the request reports of a real shop."""
WANTED_SHARE: Final = 0.85

Floats = NDArray[np.float64]


def report(plan: Plan, lived: Mapping[str, Lived], costs: Mapping[str, float]) -> dict[str, Any]:
    """All figures of a run as plain values. Shares are 0–1; a *gain* is a difference of recovery rates.

    `costs` is what each offer costs the shop when an order is made with it.
    """
    held = lived["engine"].held_out
    treated = {name: without(lived[name], held) for name in ARMS}
    rates = {name: _Rate(treated[name]) for name in ARMS}
    last = max(0, plan.weeks - 3)
    engine, none, oracle = rates["engine"], rates["holdout"], rates["oracle"]
    lift = engine.rate / none.rate - 1 if none.rate else 0.0
    return {
        "simulated": True,
        "weeks": plan.weeks, "visitors": plan.n_visitors, "seed": plan.seed,
        "recovery_rate": "share of the sessions with a cart at risk that end in a purchase; at risk: past 60 % of a "
                         "page, more than 30 s on it, something in the cart and not bought, when the shop asks",
        "arms": {name: _arm(treated[name], rates[name], none, costs) for name in ARMS},
        "engine_minus_holdout": _told(_paired(engine, none)),
        "engine_minus_rules": _told(_paired(engine, rates["rules"])),
        "engine_minus_always": _told(_paired(engine, rates["always"])),
        "as_a_shop_measures_it": _told(_held_out(lived["engine"], held)),
        "share_of_oracle": _share(engine, none, oracle),
        "share_of_oracle_last_weeks": _share(*(_Rate(treated[n], last) for n in ("engine", "holdout", "oracle"))),
        "share_of_unbound": _share(engine, none, rates["unbound"]),
        "share_of_oracle_rules": _share(rates["rules"], none, oracle),
        "share_of_oracle_always": _share(rates["always"], none, oracle),
        "by_week": [_week(treated, week) for week in range(plan.weeks)],
        "increase": {"simulated": lift, "seed_reports_of_a_real_shop": SEED_CLAIM},
        "discounts": {name: _discounts(treated[name], costs) for name in ("engine", "rules", "always")},
        "offers": _offers(treated["engine"]),
        "models_trained": lived["engine"].n_models,
    }  # fmt: skip


class _Rate:
    """A rate of carts recovered, with each shopper's part in it."""

    def __init__(self, lived: Lived, first_week: int = 0, last_week: int = 10**9) -> None:
        self.at_risk: dict[int, float] = defaultdict(float)
        self.recovered: dict[int, float] = defaultdict(float)
        for (index, _), session in lived.sessions.items():
            if session.at_risk and first_week <= session.week <= last_week:
                self.at_risk[index] += 1
                self.recovered[index] += session.recovered
        self.n = len(self.at_risk)
        total = sum(self.at_risk.values())
        self.rate = sum(self.recovered.values()) / total if total else 0.0

    def influence(self, shoppers: list[int]) -> Floats:
        """Each shopper's rate + (recovered − rate · at risk) / mean at risk: their mean is the rate (delta method)."""
        at_risk = np.array([self.at_risk.get(i, 0.0) for i in shoppers])
        recovered = np.array([self.recovered.get(i, 0.0) for i in shoppers])
        mean = at_risk.mean() if len(shoppers) else 1.0
        return np.asarray(self.rate + (recovered - self.rate * at_risk) / (mean or 1.0), dtype=np.float64)


def _paired(one: _Rate, other: _Rate) -> Running:
    shoppers = sorted(one.at_risk.keys() | other.at_risk.keys())
    running = Running()
    running.add(one.influence(shoppers) - other.influence(shoppers))
    return running


def _held_out(engine: Lived, held: frozenset[int]) -> Running:
    """Treated against held out within the one world of the engine, as a shop without a second world has to."""
    sides = [_Rate(without(engine, held)), _Rate(without(engine, frozenset(engine.temper) - held))]
    runs = []
    for side in sides:
        running = Running()
        running.add(side.influence(sorted(side.at_risk)))
        runs.append(running)
    treated, control = runs
    return contrast((control.n, treated.n), (control.mean, treated.mean), (control.variance, treated.variance))


def _told(running: Running) -> dict[str, Any]:
    low, high = interval(running, ALPHA)
    finite = math.isfinite(low)
    return {
        "gain": running.mean, "lower": low if finite else None, "upper": high if finite else None,
        "confidence": 1 - ALPHA, "any_time_valid": True, "excludes_0": finite and (low > 0 or high < 0),
        "shoppers": int(running.n),
    }  # fmt: skip


def _share(engine: _Rate, none: _Rate, oracle: _Rate) -> dict[str, Any]:
    possible = oracle.rate - none.rate
    shoppers = sorted(engine.at_risk.keys() | none.at_risk.keys() | oracle.at_risk.keys())
    share = (engine.rate - none.rate) / possible if possible else 0.0
    base = none.influence(shoppers)
    gained, possible_each = engine.influence(shoppers) - base, oracle.influence(shoppers) - base
    # Fieller: a share is refuted where the interval of gained − share · possible leaves 0 out.
    kept = [s for s in np.linspace(0.0, 1.5, 301) if _holds(gained - s * possible_each)]
    found: dict[str, Any] = {"share": share, "wanted": WANTED_SHARE, "reached": share >= WANTED_SHARE}
    found["lower"], found["upper"] = (float(kept[0]), float(kept[-1])) if kept else (None, None)
    return found


def _holds(values: Floats) -> bool:
    running = Running()
    running.add(values)
    low, high = interval(running, ALPHA)
    return low <= 0 <= high


def _week(treated: Mapping[str, Lived], week: int) -> dict[str, Any]:
    rates = {name: _Rate(treated[name], week, week) for name in ARMS}
    possible = rates["oracle"].rate - rates["holdout"].rate
    gained = rates["engine"].rate - rates["holdout"].rate
    return {"week": week + 1, **{name: rates[name].rate for name in ARMS},
            "share_of_oracle": gained / possible if possible else 0.0}  # fmt: skip


def _arm(lived: Lived, rate: _Rate, none: _Rate, costs: Mapping[str, float]) -> dict[str, Any]:
    """One arm: its rate and funnel, what its offers cost, and that by each cart recovered beyond no offers."""
    spent = sum(
        costs.get(one.offers[-1], 0.0) for one in lived.sessions.values() if one.at_risk and one.purchase and one.offers
    )
    gained = (rate.rate - none.rate) * sum(rate.at_risk.values())
    return {
        "recovery_rate": rate.rate, "funnel": counts(list(lived.sessions.values())), "spent": spent,
        "spent_per_gain": spent / gained if spent and gained > 0 else None,
    }  # fmt: skip


def _discounts(lived: Lived, costs: Mapping[str, float]) -> dict[str, Any]:
    """To whom what costs something was shown, by hidden type of shopper."""
    found: dict[str, int] = defaultdict(int)
    for offer, by in shown_by_temper(lived).items():
        if costs.get(offer):
            for name, n in by.items():
                found[name] += n
    total = sum(found.values())
    return {"times": total, "by_type": {name: n / total for name, n in sorted(found.items())}}


def _offers(engine: Lived) -> dict[str, Any]:
    shown = shown_by_temper(engine)
    among: dict[str, int] = defaultdict(int)
    for (index, _), session in engine.sessions.items():
        if session.at_risk:
            among[engine.temper[index]] += 1
    total = sum(among.values())
    return {
        "carts_at_risk_by_type": {name: n / total for name, n in sorted(among.items())},
        "shown": {offer: {"times": sum(by.values()),
                          "by_type": {name: n / sum(by.values()) for name, n in sorted(by.items())}}
                  for offer, by in sorted(shown.items())},
    }  # fmt: skip
