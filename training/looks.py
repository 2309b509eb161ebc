"""Looks at a running test, from a table: n, mean and variance of both arms, or users and conversions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from training.columns import column, numbers, texts
from training.rows import BadRow, RawTable, read_rows

ARMS: Final = (
    ("champion", "challenger"), ("control", "treatment"), ("control", "variant"), ("control", "test"), ("c", "t"),
    ("a", "b"), ("old", "new"), ("baseline", "variant"), ("0", "1"), ("1", "2"),
)  # fmt: skip
"""The endings (or beginnings) of column names by which the two arms are told apart, tried in this order."""
QUANTITIES: Final = {
    "n": ("n", "count", "users", "visitors", "nobs", "trials", "size", "samples", "total"),
    "mean": ("mean", "avg", "average"),
    "variance": ("variance", "var"),
    "deviation": ("std", "sd", "stddev", "deviation"),
    "events": ("events", "conversions", "converted", "successes", "k", "orders", "clicks", "purchases"),
}
_SERIES: Final = frozenset({"experiment", "variant", "metric", "series", "test", "segment"})
_TIMES: Final = ("time_since_start", "time", "look", "day", "hour", "week", "date", "timestamp", "t")


@dataclass(frozen=True, slots=True)
class Look:
    """Totals so far of (champion, challenger): users, means and variances; `events` where outcomes are counts."""

    name: str
    n: tuple[float, float]
    mean: tuple[float, float]
    variance: tuple[float, float]
    events: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Looks:
    """Each series of looks by its name, in order of time, and the rows that could not be read."""

    series: dict[str, tuple[Look, ...]]
    bad: tuple[BadRow, ...]
    columns: dict[str, str]


def read_looks(path: Path, arms: tuple[str, str] | None = None, by: tuple[str, ...] | None = None) -> Looks:
    """Read a table with one look a row, totals since the start; several tests in one table are told apart by `by`.

    Columns are named after quantity and arm, in either order: `n_champion`, `mean_champion`, `variance_champion` (or
    `std_…`), or else `conversions_champion`; likewise for the challenger. `arms` names other endings. Without `by`,
    columns such as `experiment_id` tell series apart. Raises InvalidInput `table_unreadable`, `looks_columns`,
    `column_missing`, `bad_look`, `looks_not_cumulative`, `no_looks`.
    """
    raw = read_rows(path)
    pair, found = _columns(raw, arms)
    if by is None:
        by = tuple(name for name in raw.columns if name not in found.values() and _words(name)[0] in _SERIES)
    keys = [texts(column(raw, name, "--by")) for name in by]
    lower = {name.lower(): name for name in raw.columns if name not in found.values()}
    time = next((lower[name] for name in _TIMES if name in lower and lower[name] not in by), None)
    values = {key: numbers(raw.columns[name]) for key, name in found.items()}
    names = texts(raw.columns[time]) if time else np.arange(1, len(raw.lines) + 1).astype(np.str_)
    bad = list(raw.bad)
    rows: dict[str, list[int]] = {}
    for row in range(len(raw.lines)):
        reason = _fault(values, row, pair)
        if reason:
            bad.append(BadRow(raw.lines[row], reason))
            continue
        rows.setdefault(" ".join(f"{n}={k[row]}" for n, k in zip(by, keys, strict=True)) or "all", []).append(row)
    if not rows:
        first = f": line {bad[0].line}: {bad[0].reason}" if bad else ""
        raise InvalidInput("no_looks", f"{path} has no look that can be used{first}")
    clock = numbers(raw.columns[time]) if time else np.full(len(raw.lines), np.nan)
    series = {key: _ordered(raw, key, members, values, names, clock, pair) for key, members in rows.items()}
    return Looks(series, tuple(sorted(bad, key=lambda b: b.line)), found)


def _columns(raw: RawTable, arms: tuple[str, str] | None) -> tuple[tuple[str, str], dict[str, str]]:
    named = {_words(name): name for name in reversed(raw.columns)}
    for pair in (tuple(arm.lower() for arm in arms),) if arms else ARMS:
        found: dict[str, str] = {}
        for arm in pair:
            for quantity, words in QUANTITIES.items():
                for word in words:
                    name = named.get((word, arm)) or named.get((arm, word))
                    if name:
                        found.setdefault(f"{quantity} {arm}", name)
        champion, challenger = pair
        has = [{q for q in QUANTITIES if f"{q} {arm}" in found} for arm in (champion, challenger)]
        both = has[0] & has[1]
        if "n" in both and ("events" in both or ("mean" in both and both & {"variance", "deviation"})):
            return (champion, challenger), {key: name for key, name in found.items() if key.split(" ")[0] in both}
    shown = ", ".join(list(raw.columns)[:20])
    raise InvalidInput(
        "looks_columns",
        "expected, for both arms, n_champion and conversions_champion, or n_champion, mean_champion and "
        f"variance_champion (endings such as control/treatment, a/b, c/t; others with --arms); the columns are {shown}",
    )


def _words(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z]+|[0-9]+", name.lower())) or ("",)


def _fault(values: dict[str, NDArray[np.float64]], row: int, pair: tuple[str, str]) -> str | None:
    for arm in pair:
        n = values[f"n {arm}"][row]
        if not n >= 0:
            return f"n of {arm} is not a number of at least 0"
        if f"events {arm}" in values:
            if not 0 <= values[f"events {arm}"][row] <= n:
                return f"conversions of {arm} are not within 0 and n"
            continue
        spread = values.get(f"variance {arm}", values.get(f"deviation {arm}"))
        assert spread is not None
        if n >= 2 and not (np.isfinite(values[f"mean {arm}"][row]) and spread[row] >= 0):
            return f"mean or variance of {arm} is not a number, or the variance is below 0"
    return None


def _ordered(
    raw: RawTable, key: str, members: list[int], values: dict[str, NDArray[np.float64]],
    names: NDArray[np.str_], clock: NDArray[np.float64], pair: tuple[str, str],
) -> tuple[Look, ...]:  # fmt: skip
    order = np.array(members)
    if np.isfinite(clock[order]).all():
        order = order[np.argsort(clock[order], kind="stable")]
    for arm in pair:
        fallen = np.flatnonzero(np.diff(values[f"n {arm}"][order]) < 0)
        if fallen.size:
            line = raw.lines[int(order[fallen[0] + 1])]
            where = "" if key == "all" else f" ({key})"
            raise InvalidInput(
                "looks_not_cumulative", f"line {line}{where}: n of {arm} falls; each look counts from the start, "
                "and several tests in one file are told apart with --by",
            )  # fmt: skip
    return tuple(_look(str(names[row]), int(row), values, pair) for row in order)


def _look(name: str, row: int, values: dict[str, NDArray[np.float64]], pair: tuple[str, str]) -> Look:
    def both(quantity: str) -> tuple[float, float]:
        first, second = (float(np.nan_to_num(values[f"{quantity} {arm}"][row])) for arm in pair)
        return first, second

    n = both("n")
    if f"events {pair[0]}" in values:
        k = both("events")
        rates = tuple(have / of if of else 0.0 for have, of in zip(k, n, strict=True))
        mean = (rates[0], rates[1])
        return Look(name, n, mean, (mean[0] * (1 - mean[0]), mean[1] * (1 - mean[1])), k)
    if f"variance {pair[0]}" in values:
        return Look(name, n, both("mean"), both("variance"))
    deviation = both("deviation")
    return Look(name, n, both("mean"), (deviation[0] ** 2, deviation[1] ** 2))
