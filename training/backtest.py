"""Rows in file order through the online loop, beside a model frozen at the start: what learning by itself is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from training.fit import Parameters
from training.metrics import auc, base_log_loss, brier, calibration_ratio, log_loss
from training.online import Look, OnlineLoop, Policy
from training.rows import BadRow
from training.table import FEWEST_OF_A_CLASS, FEWEST_ROWS, Table, read_table


@dataclass(frozen=True, slots=True)
class Figures:
    """Over all rows after the start together; each was answered before its label was known."""

    auc: float
    log_loss: float
    brier: float
    calibration_ratio: float


@dataclass(frozen=True, slots=True)
class Backtest:
    """The loop beside the frozen model, and everything that happened on the way.

    `base_log_loss` is that of answering the base rate of the same rows, which nobody knows beforehand.
    """

    n_rows: int
    n_positive: int
    start: int
    every: int
    seed: int
    features: tuple[str, ...]
    online: Figures
    frozen: Figures
    base_log_loss: float
    looks: tuple[Look, ...]
    notes: tuple[str, ...] = ()
    bad: tuple[BadRow, ...] = ()

    @property
    def n_promoted(self) -> int:
        """How many candidates took over."""
        return sum(look.promoted for look in self.looks)

    @property
    def n_refused(self) -> int:
        """How many candidates did not pass."""
        return sum(not look.promoted and look.recipe != "wait" for look in self.looks)

    @property
    def n_rolled_back(self) -> int:
        """How often a champion gave way to its predecessor."""
        return sum(look.rolled_back for look in self.looks)

    @property
    def alarms(self) -> dict[str, int]:
        """How many drift alarms there were, by cause."""
        return dict(sorted(Counter(alarm.cause for look in self.looks for alarm in look.alarms).items()))


def backtest_from_table(
    path: Path | str, label: str, positive: str | None = None, drop: Collection[str] = (), start: int = 10_000,
    every: int = 1_000, seed: int = 0, *, time: str | None = None, policy: Policy | None = None,
    params: Parameters | None = None, seen: Callable[[Look], None] | None = None,
) -> Backtest:  # fmt: skip
    """Read a table whose rows are in time order (or sort them by the column `time`) and run it.

    Raises InvalidInput as `read_table` and `backtest` do.
    """
    table = read_table(Path(path), label, positive, drop, time)
    return backtest(table, start, every, seed, policy=policy, params=params, seen=seen)


def backtest(
    table: Table, start: int = 10_000, every: int = 1_000, seed: int = 0, *, policy: Policy | None = None,
    params: Parameters | None = None, seen: Callable[[Look], None] | None = None,
) -> Backtest:  # fmt: skip
    """Learn from the first `start` rows, then answer each row, take its label, and look every `every` rows.

    The window is `start` rows unless the policy says otherwise; labels count as matured at once. `seen` is called
    after each look. Raises InvalidInput `bad_parameters`, `too_few_rows`, `one_class`.
    """
    _check(table, start, every)
    first = replace(table.part(0, start), times=None, bad=())
    loop = OnlineLoop(first, policy or Policy(window=start), seed, params)
    frozen = loop.champion.predictor().predict_many(table.x[start:])
    y = table.y[start:]
    online = np.empty(len(y))
    looks = []
    for place in range(len(y)):
        online[place] = loop.observe(table.x[start + place], float(y[place]))
        if (place + 1) % every == 0:
            looks.append(loop.look())
            if seen:
                seen(looks[-1])
    return Backtest(
        n_rows=len(y), n_positive=int(y.sum()), start=start, every=every, seed=seed, features=table.features,
        online=_figures(y, online), frozen=_figures(y, frozen), base_log_loss=base_log_loss(y), looks=tuple(looks),
        notes=table.notes, bad=table.bad,
    )  # fmt: skip


def _figures(y: NDArray[np.float64], p: NDArray[np.float64]) -> Figures:
    return Figures(auc(y, p), log_loss(y, p), brier(y, p), calibration_ratio(y, p))


def _check(table: Table, start: int, every: int) -> None:
    n = len(table.y)
    if start < FEWEST_ROWS or every < 1:
        raise InvalidInput(
            "bad_parameters", f"start is {start}, every is {every}: at least {FEWEST_ROWS} and 1 are needed"
        )
    if start + every > n:
        words = f"{n} usable rows do not hold a start of {start} and one look {every} later"
        raise InvalidInput("too_few_rows", words)
    n_positive = int(table.y[:start].sum())
    if min(n_positive, start - n_positive) < FEWEST_OF_A_CLASS:
        words = f"{n_positive} of the first {start} rows converted; {FEWEST_OF_A_CLASS} with and without are needed"
        raise InvalidInput("too_few_rows", words)
    if len(np.unique(table.y[start:])) < 2:
        raise InvalidInput("one_class", f"only one class after the first {start} rows: nothing to compare")
