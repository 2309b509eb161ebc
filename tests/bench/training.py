"""What learning costs: a refit, a whole retraining, and what visitors notice of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from statistics import median
from typing import Final

from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.lesson import refit_s
from tests.bench.load import Load, drive, full, seconds
from tests.bench.rows import Row, at_most, measured, ratio
from tests.serving.running import ROOT

ROWS: Final = int(os.environ.get("BENCH_ROWS", "1000000" if full() else "300000"))
BESIDE: Final = 200_000
"""Rows of the retraining that runs beside the visitors."""
SHARE: Final = 0.3
CONNECTIONS: Final = 32
N_ROUNDS: Final = 3


def rows() -> list[Row]:
    """Refit, retraining, and the p99 of decisions without and with a retraining, in turns."""
    whole = lesson(ROWS)
    return [
        measured("refit of 20,000 x 30, 300 small trees", refit_s(), "s"),
        measured(f"retraining of {ROWS:,} rows: trial, gates, candidate; one thread", whole["took_s"], "s"),
        measured(f"retraining of {ROWS:,} rows: CPU", whole["cpu_s"], "s"),
        at_most(f"retraining of {ROWS:,} rows: peak memory, window included", whole["peak_mib"] / 1024, "GiB", 2),
        *beside(),
    ]


def lesson(n: int) -> dict[str, float]:
    """A whole lesson in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.lesson", str(n)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def beside() -> list[Row]:
    """p99 of `/v1/decide` at 30 % of what the system can do, without and with a retraining, round by round.

    And with a loop in its place that only counts: the part of the ratio that any process in the idle class would cost.
    """
    bodies = shop.decide_bodies(shop.visitors())
    without: list[Load] = []
    with_one: list[Load] = []
    with_none: list[Load] = []
    with Kairos(shop.model()) as kairos, beginning("for-ever") as lesson, beginning("counting") as counter:
        kairos.warm()
        most = drive(kairos.url, bodies, 64, max(2.0, seconds() / 2))
        wanted = SHARE * most.rps
        delay_ms = max(1, round(CONNECTIONS / wanted * 1000 - most.p50_ms * SHARE))
        for _ in range(N_ROUNDS):
            for loads, other in ((without, None), (with_one, lesson), (with_none, counter)):
                with nullcontext() if other is None else resumed(other):
                    loads.append(drive(kairos.url, bodies, CONNECTIONS, delay_ms=delay_ms))
    pairs, counting = (
        [r for a, b in zip(without, loads, strict=True) if (r := ratio(b.p99_ms, a.p99_ms))]
        for loads in (with_one, with_none)
    )
    failed = sum(load.n_failed for load in (*without, *with_one, *with_none))
    return [
        measured("load while a retraining runs", median(load.rps for load in with_one) / most.rps, "of the most"),
        measured("decide p99 without a retraining", median(load.p99_ms for load in without), "ms"),
        measured(f"decide p99 while {BESIDE:,} rows are retrained", median(load.p99_ms for load in with_one), "ms"),
        at_most("decide p99: with / without a retraining", median(pairs) if pairs else None, "x", 1.3),
        measured(
            "decide p99: with / without a loop that only counts in its place",
            median(counting) if counting else None,
            "x",
        ),
        measured("decide: failed requests in all rounds", float(failed), "requests"),
    ]


@contextmanager
def beginning(how: str) -> Iterator[subprocess.Popen[bytes]]:
    """The trainer's lesson, at the trainer's priority and pace, or what stands for it; it waits until it is resumed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.lesson", str(BESIDE), how], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def resumed(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let it go on from where it was, for as long as the block lasts."""
    process.send_signal(signal.SIGCONT)
    try:
        yield
    finally:
        process.send_signal(signal.SIGSTOP)
