"""`/v1/decide` against the no-op and the hand-written service, each alone, in turns; and its cost in CPU."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from tests.bench import shop
from tests.bench.competitors import Competitor, HandMade, Kairos, NoOp, cpu_s, subtract
from tests.bench.load import Load, drive, median, seconds
from tests.bench.rows import Row, at_least, at_most, measured, ratio

N_ROUNDS = 3
CONCURRENCY = (1, 32, 64)
PARTS = ("haproxy", "ingress", "shards", "store", "trainer", "rollouts", "rest")

Seen = dict[tuple[str, int], list[Load]]


def rows() -> list[Row]:
    """Three rounds of no-op, hand-written, Kairos."""
    model = shop.model()
    seen: Seen = {}
    costs: dict[str, list[dict[str, float]]] = {}
    missed: list[float] = []
    contenders: tuple[Callable[[], Competitor], ...] = (NoOp, lambda: HandMade(model), lambda: Kairos(model))
    for _ in range(N_ROUNDS):
        for contender in contenders:
            with contender() as one:
                _measure(one, seen, costs, missed)
    return [*_figures(seen), *_ratios(seen), *_costs(costs), _full(missed)]


def _measure(one: Competitor, seen: Seen, costs: dict[str, list[dict[str, float]]], missed: list[float]) -> None:
    bodies = shop.decide_bodies(shop.visitors())
    one.warm()
    for c in CONCURRENCY:
        parts = one.parts()
        before, rungs = cpu_s(parts), one.rungs() if isinstance(one, Kairos) else {}
        # The median of one connection is steady sooner than the tail of many.
        load = drive(one.url, bodies, c, seconds() / 2 if c == 1 else None)
        seen.setdefault((one.name, c), []).append(load)
        if isinstance(one, Kairos):
            # What wrk abandons at its end counts as superseded and is nobody's miss.
            made = {rung: n for rung, n in subtract(one.rungs(), rungs).items() if rung != "superseded"}
            missed.append(1.0 - made.get("model", 0.0) / max(1.0, sum(made.values())))
        if c == 64:
            used = subtract(cpu_s(parts), before)
            costs.setdefault(one.name, []).append({part: s / load.n * 1e6 for part, s in used.items()})


def _figures(seen: Seen) -> list[Row]:
    found = []
    for (name, c), loads in sorted(seen.items(), key=lambda item: (item[0][1], item[0][0])):
        found += [
            measured(f"decide c={c} {name}: rate", median(loads, "rps"), "1/s"),
            measured(f"decide c={c} {name}: p50", median(loads, "p50_ms"), "ms"),
            measured(f"decide c={c} {name}: p99", median(loads, "p99_ms"), "ms"),
        ]
        failed = sum(load.n_failed for load in loads)
        if failed:
            found.append(measured(f"decide c={c} {name}: failed requests", float(failed), "requests"))
    return found


def _ratios(seen: Seen) -> list[Row]:
    def of(name: str, c: int, figure: str, against: str) -> float | None:
        # Round by round, then the median: neighbours in time share the machine's mood.
        pairs = zip(seen.get((name, c), []), seen.get((against, c), []), strict=False)
        found = [r for ours, theirs in pairs if (r := ratio(getattr(ours, figure), getattr(theirs, figure)))]
        return statistics.median(found) if found else None

    noop, hand, we = NoOp.name, HandMade.name, Kairos.name
    return [
        at_least("decide c=64: rate / no-op", of(we, 64, "rps", noop), "x", 0.55),
        at_least("decide c=64: rate / hand-written", of(we, 64, "rps", hand), "x", 1.1),
        at_most("decide c=32: p99 / hand-written", of(we, 32, "p99_ms", hand), "x", 0.5),
        at_most("decide c=64: p99 / hand-written", of(we, 64, "p99_ms", hand), "x", 0.5),
        at_most("decide c=1: p50 / no-op", of(we, 1, "p50_ms", noop), "x", 4),
        at_most("decide c=1: p50 / hand-written", of(we, 1, "p50_ms", hand), "x", 2),
    ]


def _costs(costs: dict[str, list[dict[str, float]]]) -> list[Row]:
    def of(name: str, part: str) -> float:
        rounds = [one.get(part, 0.0) for one in costs.get(name, [])]
        return statistics.median(rounds) if rounds else 0.0

    found = []
    totals = {}
    for name in (NoOp.name, HandMade.name, Kairos.name):
        label = {"ingress": "replica"} if name == NoOp.name else {"rest": "workers"} if name == HandMade.name else {}
        totals[name] = sum(of(name, part) for part in PARTS)
        for part in PARTS:
            if of(name, part) >= 0.5:
                found.append(measured(f"CPU a request c=64 {name}: {label.get(part, part)}", of(name, part), "µs"))
        found.append(measured(f"CPU a request c=64 {name}: all", totals[name], "µs"))
    return [*found, measured("CPU a decision above the no-op", totals[Kairos.name] - totals[NoOp.name], "µs")]


def _full(missed: list[float]) -> Row:
    # Beyond this a rate says little: an answer in Tier 1's order, when the deadline strikes, is a cheap one.
    return at_most("decide: degraded, of all", max(missed, default=0.0), "share", 0.01)
