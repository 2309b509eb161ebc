"""The rule of rollouts on simulated users: equal models, bad ones, power; and how soon a rollback reaches every shard.

`BENCH_ROLLOUTS` is the number of A/A rollouts (800, some minute; 2,000 with `FULL=1`), a twentieth of it that of
every other row.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.resources import files
from multiprocessing import get_context

from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.load import full
from tests.bench.rows import Row, at_most, measured
from training.rollout import Phase
from training.rollout_plan import Plan, Stage
from training.rollout_simulation import BAD, EQUAL, Candidate, Shop, gate, simulate
from training.rollout_tables import summary

SHOP = Shop(users_per_day=20_000, conversion=0.1)
MARGINS = (0.05, 0.1, 0.2)
SHARES = (0.01, 0.05, 0.25, 0.5)
FALSE_AT_MOST = 0.01
ROLLBACK_MS = 2000.0
BETTER = Candidate("better (+5 % conversion, half the noise)", noise=0.15, conversion=1.05)
BOOK = files("serving").joinpath("samples", "cart_recovery.yaml").read_text("utf-8")


def rows() -> list[Row]:
    """Everything; the simulations first, then a real Kairos for the way back."""
    return [*simulated(), *_way_back()]


def simulated() -> list[Row]:
    """What needs no Kairos, on all cores."""
    n = int(os.environ.get("BENCH_ROLLOUTS", "2000" if full() else "800"))
    parts = ((_equal, n), (_power, max(5, n // 20)), (_bad, max(5, n // 20)), (_alone, max(5, n // 40)))
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        found = [pool.submit(part, times) for part, times in parts]
        return [row for one in found for row in one.result()]


def _equal(n: int) -> list[Row]:
    ended = [simulate(EQUAL, SHOP, Plan(), seed) for seed in range(n)]
    shares = {phase: sum(one.phase is phase for one in ended) / n for phase in Phase}
    n_looks = sum(one.users for one in ended)
    whys = Counter(one.why for one in ended if one.phase is Phase.ROLLED_BACK)
    why = ", ".join(f"{name} {count}" for name, count in whys.most_common()) or "none"
    return [
        at_most(f"A/A: rolled back, {n:,} rollouts ({why})", shares[Phase.ROLLED_BACK] * 100, "%", FALSE_AT_MOST * 100),
        measured("A/A: promoted", shares[Phase.PROMOTED] * 100, "%"),
        measured("A/A: looks, one after every user", n_looks / 1e6, "M"),
    ]


def _bad(n: int) -> list[Row]:
    """Through gates, shadow and ramp; users exposed as if the gates had let it through."""
    found = []
    for bad in BAD:
        refused = sum(gate(bad, SHOP, seed) is not None for seed in range(20)) / 20
        for margin in MARGINS:
            row = summary(bad, SHOP, Plan(margin=margin), n)
            caught = 1 - row["promoted"]
            at = f"gates refuse {refused:.0%}; else {row['where']}, caught {caught:.0%}"
            none_at_all = bad.inverted or bad.bad_scores
            name = f"{bad.name}, m={margin:g}: users exposed ({at})"
            found.append(at_most(name, row["exposed"], "", 0.0) if none_at_all else measured(name, row["exposed"], ""))
    return found


def _alone(n: int) -> list[Row]:
    """At one share from the start, without gates and shadow: what each guard sees by itself."""
    found = []
    for bad in BAD:
        for share in SHARES:
            plan = Plan(stages=(Stage(share, 0, 28 * 86_400.0),))
            row = summary(bad, SHOP, plan, n)
            name = f"{bad.name}, {share:.0%} alone: users exposed (caught {row['rolled_back']:.0%}, {row['where']})"
            found.append(measured(name, row["exposed"], ""))
    return found


def _power(n: int) -> list[Row]:
    found = []
    for candidate in (EQUAL, BETTER):
        for margin in MARGINS:
            for per_day in (5_000, 20_000):
                row = summary(candidate, replace(SHOP, users_per_day=per_day), Plan(margin=margin), n)
                name = f"{candidate.name}, m={margin:g}, {per_day:,} users a day: promoted ({row['days']:.1f} days)"
                found.append(measured(name, row["promoted"] * 100, "%"))
    return found


def _way_back() -> list[Row]:
    """A book on half of the users of a real Kairos, rolled back by hand: until the verb returns."""
    took = []
    with Kairos(shop.model()) as kairos:
        kairos.warm()
        assert kairos.running is not None
        http = kairos.running.http
        for n in range(10):
            book = BOOK.replace("priority: 10", f"priority: {11 + n}")
            tried = http.put("/v1/campaigns?canary=0.5", content=book, headers={"content-type": "text/yaml"})
            rollout = tried.json()["rollout"]["id"]
            began = time.perf_counter()
            http.post(f"/v1/rollouts/{rollout}/rollback", json={"by": "bench"}).raise_for_status()
            took.append((time.perf_counter() - began) * 1000)
            arms = {kairos.running.decide(anonymousId=f"b{n}-{i}")["model"]["arm"] for i in range(40)}
            assert arms == {"champion"}, "every shard has heard it"
    took.sort()
    return [
        measured("rollback, every shard has heard it: median of 10", took[5], "ms"),
        at_most("rollback, every shard has heard it: slowest of 10", took[-1], "ms", ROLLBACK_MS),
    ]
