"""The terms of an offer checked beyond their types: periods, dates, hours, discounts, what content names of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from engine.durations import duration_ms
from engine.findings import Findings, Loc
from engine.offer_times import MAX_TIMES
from engine.periods import is_period
from engine.templates import roots_named
from engine.terms import MAX_STEPS
from engine.windows import parse_local

PERIOD: Final = "less than a day, or whole days (1h, 6h, 1d, 7d)"
DATE: Final = "a date such as 2026-11-30, or 2026-11-30T18:00, without a zone"
HOURS: Final = "two different hours of 0 to 24, such as [9, 18], or [22, 6] over midnight"


def check_terms(raw: Mapping[str, Any], loc: Loc, findings: Findings) -> None:
    """Add a finding for each term of an offer that cannot be kept."""
    for part, check in (("budget", _budget), ("window", _window), ("discount", _discount)):
        if isinstance(raw.get(part), Mapping):
            check(raw[part], raw, (*loc, part), findings)
    if raw.get("discount") is None and "discount" in roots_named(raw.get("content")):
        expected = "a discount in this offer: discount: {min: 0.05, max: 0.20, step: 0.05}"
        findings.add((*loc, "content"), "template_discount", expected, found="discount in the content alone")
    cap = raw.get("caps")
    per = cap.get("per_profile") if isinstance(cap, Mapping) else None
    most = per.get("max") if isinstance(per, Mapping) else None
    if isinstance(most, int) and most > MAX_TIMES:
        what = f"a visitor's newest {MAX_TIMES} times are remembered, and a cap above that is never reached"
        findings.warn((*loc, "caps", "per_profile", "max"), "cap_too_large", what)
    counted = [part.get("count") for part in (per,) if isinstance(part, Mapping)]
    if isinstance(raw.get("budget"), Mapping):
        counted.append(raw["budget"].get("unit"))
    if "redemptions" in counted and raw.get("redemption") is None:
        what = (
            "redemptions are counted and no token is given; add redemption: {valid: 7d}, or see that your shop sends "
            "Offer Redeemed with decision_id and offer_id"
        )
        findings.warn(loc, "no_redemption", what)


def _budget(raw: Mapping[str, Any], offer: Mapping[str, Any], loc: Loc, findings: Findings) -> None:
    per = duration_ms(raw.get("per"))
    if per is not None and per > 0 and not is_period(per):
        findings.add((*loc, "per"), "wrong_period", PERIOD, found=raw["per"])
    if raw.get("pace") == "even" and raw.get("per") is None:
        findings.add((*loc, "pace"), "no_period", "a period to spread it over, such as per: 1d", found="even")
    most, cost = raw.get("max"), offer.get("cost")
    if not _number(most):
        return
    if raw.get("unit") == "cost":
        if not _number(cost) or cost == 0:
            if not isinstance(offer.get("discount"), Mapping):
                findings.add((*loc, "unit"), "no_cost", "an offer with a cost, to be counted", found="cost 0")
        elif cost > most:
            findings.add((*loc, "max"), "budget_too_small", f"at least one offer's cost, {cost:g}", found=most)
    elif most < 1:
        findings.add((*loc, "max"), "budget_too_small", "at least 1", found=most)


def _window(raw: Mapping[str, Any], offer: Mapping[str, Any], loc: Loc, findings: Findings) -> None:  # noqa: ARG001
    moments = []
    for name in ("from", "until"):
        text = raw.get(name)
        moment = parse_local(text, last=name == "until") if isinstance(text, str) else None
        if isinstance(text, str) and moment is None:
            findings.add((*loc, name), "wrong_date", DATE, found=text)
        moments.append(moment)
    start, end = moments
    if start is not None and end is not None and start >= end:
        findings.add((*loc, "until"), "empty_window", f"later than from, {raw['from']}", found=raw["until"])
    hours = raw.get("hours")
    if isinstance(hours, list):
        sound = len(hours) == 2 and all(_number(h) and 0 <= h <= 24 for h in hours) and hours[0] != hours[1]
        if not sound:
            findings.add((*loc, "hours"), "wrong_hours", HOURS, found=str(hours))
    if raw.get("weekdays") == []:
        findings.add((*loc, "weekdays"), "empty_window", "at least one day", found="none")


def _discount(raw: Mapping[str, Any], offer: Mapping[str, Any], loc: Loc, findings: Findings) -> None:
    low, high, step = raw.get("min"), raw.get("max"), raw.get("step")
    if not (_number(low) and _number(high)):
        return
    if low > high:
        findings.add((*loc, "max"), "discount_range", f"at least min, {low:g}", found=high)
    elif high == 0:
        findings.add((*loc, "max"), "discount_range", "more than nothing", found=high)
    elif _number(step) and step > 0 and (high - low) / step > MAX_STEPS - 1 + 1e-9:
        expected = f"at most {MAX_STEPS} steps from min to max: at least {(high - low) / (MAX_STEPS - 1):.3g}"
        findings.add((*loc, "step"), "discount_range", expected, found=step)
    if _number(offer.get("cost")) and offer["cost"] > 0:
        expected = "no cost beside a discount: what it takes off is its cost"
        findings.add((*loc[:-1], "cost"), "two_costs", expected, found=offer["cost"])


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
