"""The gates that need more than predictions: columns that leak, time to answer, the value of what would be shown."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from engine.schema import schema_hash
from training.fit import Parameters, Told
from training.gates import Finding
from training.leakage import PERFECT, column_auc, written_with_outcome
from training.off_policy import Valuation, value, weights
from training.retake import Retaken
from training.table import Table

Floats = NDArray[np.float64]

LEAK_ROWS: Final = 50_000
"""The newest rows in which leaks are looked for: 44 columns of so many take some seconds."""
SLOWER: Final = 1.4
"""The times a candidate may take as long as the champion for one row."""
LONGEST_US: Final = 100.0
"""The microseconds it may take where there is no trained champion to compare it with."""
WORTH_LESS: Final = 0.02
"""The share of what the log earned that a candidate's choices may lose before the loss is held against it."""
_BLOCKS, _BLOCK_ROWS = 15, 64


class Answers(Protocol):
    """A model that is asked for one row."""

    def predict_one(self, row: Floats, /) -> float:
        """The probability for one row of shape (n_features,)."""
        ...


def check_schema(hash_of_candidate: str) -> Finding:
    """The candidate reads the rows that this engine writes."""
    same = hash_of_candidate == schema_hash()
    words = f"it was trained on layout {hash_of_candidate}; visitors have that of {schema_hash()}"
    return Finding("schema", same, float(same), 1, words)


def check_leaks(table: Table, parameters: Parameters, told: Told | None = None) -> Finding:
    """No column that is written with the outcome, or ranks it as no honest column does.

    Rows are features as they were served, so a column that is merely strong (a checkout under way) is no leak here;
    `training.leakage.find_leaks`, for tables of unknown making, is stricter. The worst column is named. `told` hears
    after each column which share of them is looked at.
    """
    table = table.newest(LEAK_ROWS)
    x, y = table.x, table.y
    if len(np.unique(y)) < 2:
        return Finding("leakage", True, np.nan, PERFECT, "one outcome only: nothing to look for", undecided=True)
    alone: dict[str, float] = {}
    for i, name in enumerate(table.features):
        if not np.isnan(x[:, i]).all():
            alone[name] = column_auc(x[:, i], y, name in table.categorical, table.visitors)
        if told is not None:
            told((i + 1) / len(table.features))
    unknown = [name for name in table.features if name not in alone]
    written = written_with_outcome(table, parameters, unknown)
    worst = max(alone, key=lambda name: (name in written, alone[name]), default="")
    highest = alone.get(worst, 0.5)
    figures = {"n_written_with_outcome": float(len(written))}
    if written:
        words = f"column {worst!r} has values with which nearly every row converts, as if written with the outcome"
        return Finding("leakage", False, highest, PERFECT, words, figures=figures)
    words = f"the strongest column, {worst!r}, alone ranks conversions with AUC {highest:.3f}"
    return Finding("leakage", highest < PERFECT, highest, PERFECT, words, figures=figures)


def check_latency(
    champion: Answers | None, candidate: Answers, rows: Floats, clock: Callable[[], int] = perf_counter_ns
) -> Finding:
    """Time for one row against the champion's, in turns, each by its fastest block: what interrupts both counts not.

    `rows` is of shape (n, n_features); None for a champion that is no trained model.
    """
    block = np.ascontiguousarray(rows[-_BLOCK_ROWS:])
    if len(block) == 0:
        return Finding("latency", True, np.nan, SLOWER, "no rows to measure with", undecided=True)

    def us(model: Answers) -> float:
        began = clock()
        for row in block:
            model.predict_one(row)
        return (clock() - began) / 1e3 / len(block)

    ours, theirs = [], []
    for _ in range(_BLOCKS):
        ours.append(us(candidate))
        if champion is not None:
            theirs.append(us(champion))
    best = min(ours)
    if champion is None:
        words = f"{best:.1f} µs a row; there is no trained champion to compare with"
        return Finding("latency", best <= LONGEST_US, best, LONGEST_US, words)
    ratio = best / max(min(theirs), 1e-3)
    words = f"{best:.1f} µs a row against the champion's {min(theirs):.1f}, {ratio:.2f} ×"
    return Finding("latency", ratio <= SLOWER, ratio, SLOWER, words, figures={"us": best, "champion_us": min(theirs)})


def check_value(taken: Retaken) -> Finding:
    """What the candidate's choices would have earned on logged decisions, against what was earned.

    Off-policy estimates refuse rather than guess: without support in the log the gate stays undecided and the canary
    decides. Refused is a candidate that loses for certain (the interval's upper bound is below the loss allowed).
    """
    if len(taken.reward) < 2:
        return _undecided("no recorded decision with a choice could be taken again")
    try:
        found = value(taken.reward, weights(taken.target, taken.propensity), taken.q_logged, taken.q_target)
    except InvalidInput as refusal:
        return _undecided(refusal.message)
    if found.verdict != "ok":
        return _undecided("; ".join(found.why), found)
    limit = -WORTH_LESS * abs(found.logged)
    words = (
        f"its choices would have earned {found.dr.value:.4f} a decision against {found.logged:.4f} logged: "
        f"{found.gain.value:+.4f} ({found.gain.lower:+.4f} to {found.gain.upper:+.4f})"
    )
    return Finding("value", found.gain.upper >= limit, found.gain.value, limit, words, figures=_figures(found))


def _undecided(why: str, found: Valuation | None = None) -> Finding:
    figures = {} if found is None else _figures(found)
    return Finding("value", True, np.nan, np.nan, why, undecided=True, figures=figures)


def _figures(found: Valuation) -> dict[str, float]:
    return {
        "n": float(found.n), "logged": found.logged, "ips": found.ips.value, "snips": found.snips.value,
        "dr": found.dr.value, "gain_lower": found.gain.lower, "gain_upper": found.gain.upper,
        "mean_weight": found.mean_weight, "effective": found.effective, "effective_needed": found.effective_needed,
    }  # fmt: skip
