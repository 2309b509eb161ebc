"""Simulated weeks of cart recovery from the command line: the arms side by side in processes, their figures told."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import typer

from engine.errors import InvalidInput
from serving.books import load_book_file
from serving.context import ContextReader, Hints

CAMPAIGN: Final = "cart_recovery"
BAR: Final = 40


def tell_weeks(weeks: int, visitors: int, book: Path, seed: int, workers: int, *, as_json: bool) -> None:
    """Live the weeks under every arm, and print what they show.

    Raises:
        InvalidInput: `not_cart_recovery` for a book that is about something else.
    """
    data = load_book_file(book).data()
    if CAMPAIGN not in data["campaigns"] or "cart_page" not in data["campaigns"][CAMPAIGN]["placements"]:
        raise InvalidInput(
            "not_cart_recovery", f"the simulated shop recovers carts: {book} wants a campaign {CAMPAIGN} with cart_page"
        )
    found = run_weeks(weeks, visitors, data, seed, workers)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, allow_nan=False))
        return
    for line in lines_of(found):
        typer.echo(line)


def run_weeks(weeks: int, visitors: int, data: dict[str, Any], seed: int, workers: int = 1) -> dict[str, Any]:
    """The report of all arms. The same arguments give the same figures, whatever the number of workers."""
    from training.recovery.figures import report
    from training.recovery.weeks import ARMS, Plan

    plan = Plan(visitors, weeks, seed, CAMPAIGN)
    if workers == 1:
        lived = {name: live_arm(plan, name, data) for name in ARMS}
    else:
        # LightGBM's threads and a fork do not go together.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent) as pool:
            # The slowest first.
            order = sorted(ARMS, key=lambda name: name in ("holdout", "unbound"))
            under_way = {name: pool.submit(live_arm, plan, name, data) for name in order}
            lived = {name: under_way[name].result() for name in ARMS}
    costs = {name: float(offer.get("cost") or 0.0) for name, offer in data["campaigns"][CAMPAIGN]["offers"].items()}
    return report(plan, lived, costs)


def end_with_parent() -> None:
    """Have this worker end when the process that started it does, even where that was killed."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True, name="parent").start()


def live_arm(plan: Any, name: str, data: dict[str, Any]) -> Any:
    """One arm, in this process."""
    from training.recovery.weeks import live

    reader = ContextReader()
    return live(plan, name, data, lambda raw, now_ms: reader.read(raw, Hints(), now_ms), _say)


def _say(arm: str, week: int) -> None:
    if sys.stderr.isatty():
        print(f"{arm}: week {week} is over", file=sys.stderr, flush=True)


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """The report for a person."""
    yield (
        f"SIMULATED: {found['visitors']:,} new shoppers in {found['weeks']} weeks (seed {found['seed']}), "
        "each living them once under every arm with the same dice"
    )
    yield f"recovery rate: {found['recovery_rate']}"
    yield ""
    for name, arm in found["arms"].items():
        funnel = arm["funnel"]
        rate = arm["recovery_rate"]
        yield f"{name:8} {rate:6.1%} {'█' * round(rate * BAR):{BAR}}  {_funnel(funnel)}"
    yield ""
    yield f"engine − no offers   {_gain(found['engine_minus_holdout'])}"
    yield f"engine − rules       {_gain(found['engine_minus_rules'])}"
    yield f"engine − always      {_gain(found['engine_minus_always'])}"
    yield f"as a shop measures   {_gain(found['as_a_shop_measures_it'])} (the book's own holdout, one world)"
    for label, key in (
        ("whole time", "share_of_oracle"), ("last 3 weeks", "share_of_oracle_last_weeks"),
        ("unbound", "share_of_unbound"),
    ):  # fmt: skip
        share = found[key]
        between = f"{_share(share['lower'])} … {_share(share['upper'])}"
        yield f"share of the oracle's gain, {label:12} {share['share']:6.1%} (95% interval {between})"
    yield "  by week " + ", ".join(f"{week['share_of_oracle']:.0%}" for week in found["by_week"])
    for name in ("rules", "always"):
        yield f"  of {name} {found['share_of_oracle_' + name]['share']:.1%}"
    yield "spent on offers for each cart recovered beyond no offers: " + ", ".join(
        f"{name} {arm['spent_per_gain']:.2f}"
        for name, arm in found["arms"].items()
        if arm["spent_per_gain"] is not None
    )
    yield ""
    yield from _offers(found["offers"], found["discounts"])
    rise = found["increase"]
    yield (
        f"increase of the recovery rate {rise['simulated']:+.1%} (simulated); the seed reports "
        f"{rise['seed_reports_of_a_real_shop']:+.0%} of a real shop, which this does not show"
    )


def _offers(offers: Mapping[str, Any], discounts: Mapping[str, Any]) -> Iterator[str]:
    among = offers["carts_at_risk_by_type"]
    yield "carts at risk by hidden type: " + ", ".join(f"{name} {share:.0%}" for name, share in among.items())
    for name, shown in discounts.items():
        by = ", ".join(f"{kind} {share:.0%}" for kind, share in shown["by_type"].items())
        yield f"  what costs something, {name}: shown {shown['times']:,} times to {by}"
    for offer, shown in offers["shown"].items():
        by = ", ".join(f"{name} {share:.0%}" for name, share in shown["by_type"].items())
        yield f"  {offer} shown {shown['times']:,} times to: {by}"


def _funnel(funnel: Mapping[str, int]) -> str:
    return (
        f"view {funnel['viewed']:,} → cart {funnel['cart']:,} → at risk {funnel['at_risk']:,} → "
        f"checkout {funnel['at_risk_checkout']:,} → purchase {funnel['recovered']:,}"
    )


def _gain(told: Mapping[str, Any]) -> str:
    return (
        f"{told['gain']:+.4f}, {told['confidence']:.0%} interval {_bound(told['lower'])} … {_bound(told['upper'])}, "
        "valid at every look"
    )


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _bound(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.4f}"
