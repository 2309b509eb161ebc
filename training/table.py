"""A table to learn from: rows of features with a label, in the engine's layout where it has the engine's columns."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from training.cells import MISSING, Column, number
from training.encode import Encoded, bad_rows, encode_time
from training.layout import lay_out
from training.rows import BadRow, RawTable, read_rows

FEWEST_ROWS: Final = 100
FEWEST_OF_A_CLASS: Final = 10
_YES: Final = frozenset({"1", "true", "yes", "y", "t"})
_NO: Final = frozenset({"0", "false", "no", "n", "f"})


@dataclass(frozen=True, slots=True)
class Table:
    """Features `x` of shape (n, len(features)) with NaN = missing, and `y` of 0/1 of shape (n,).

    `categorical` names the features that hold codes, `categories` their labels in code order where a closed set is
    known. `times` are epoch ms of shape (n,), rising, where the table names a time. `visitors` of shape (n,) has a
    number for whoever each row is about, where that is known. `bad` are rows left out.
    """

    features: tuple[str, ...]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    schema_hash: str
    servable: bool
    why_not: str | None = None
    categorical: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] | None = None
    times: NDArray[np.int64] | None = None
    visitors: NDArray[np.int64] | None = None
    label: str = ""
    positive: str = ""
    source: str = ""
    bad: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()

    def part(self, start: int, end: int | None = None) -> Table:
        """Some rows of it: views, nothing is copied."""
        rows = slice(start, end)
        return replace(
            self, x=self.x[rows], y=self.y[rows],
            times=None if self.times is None else self.times[rows],
            visitors=None if self.visitors is None else self.visitors[rows],
        )  # fmt: skip

    def newest(self, n: int) -> Table:
        """Its last rows, at most `n`."""
        return self.part(max(0, len(self.y) - n))

    def without(self, names: Collection[str]) -> Table:
        """The same rows without some features; a table of its own, not for serving."""
        keep = [index for index, name in enumerate(self.features) if name not in names]
        return replace(
            self,
            features=tuple(self.features[index] for index in keep),
            x=np.ascontiguousarray(self.x[:, keep]),
            categorical=tuple(name for name in self.categorical if name not in names),
            servable=False,
            why_not="it is a part of a table",
        )


def read_table(
    path: Path, label: str, positive: str | None = None, drop: Collection[str] = (), time: str | None = None
) -> Table:
    """Read a file with a label column; `positive` is the label's text that counts as a conversion.

    Raises InvalidInput: `table_unreadable`, `label_missing` and `column_missing` (with the nearest name),
    `positive_unknown`, `one_class`, `too_few_rows`, `too_many_bad_rows`, `no_features`.
    """
    raw = read_rows(path)
    _must_have(raw, label, "label_missing", "label column")
    for name in (*drop, *([time] if time else [])):
        _must_have(raw, name, "column_missing", "column")
    y, positive = _labels(label, raw.columns[label], positive)
    columns = {name: column for name, column in raw.columns.items() if name not in {label, time, *drop}}
    layout = lay_out(columns, len(raw.lines))
    if not layout.columns:
        raise InvalidInput("no_features", f"{path}: no column is left to learn from")
    when = encode_time(time, raw.columns[time]) if time else None
    used = [y, *layout.columns.values(), *([when] if when else [])]
    good = np.ones(len(raw.lines), dtype=bool)
    good[[row for encoded in used for row, _ in encoded.faults]] = False
    bad = tuple(sorted((*raw.bad, *bad_rows(used, list(raw.lines))), key=lambda b: b.line))
    _check_rows(path, y.values[good], bad, label, positive)
    order = np.flatnonzero(good)
    if when is not None:
        order = order[np.argsort(when.values[order], kind="stable")]
    x = np.empty((len(order), len(layout.columns)))
    for place, encoded in enumerate(layout.columns.values()):
        x[:, place] = encoded.values[order]
    return Table(
        features=tuple(layout.columns), x=x,
        y=y.values[order], schema_hash=layout.schema_hash, servable=layout.servable, why_not=layout.why_not,
        categorical=layout.categorical, categories=layout.categories,
        times=None if when is None else when.values[order].astype(np.int64),
        label=label, positive=positive, source=path.name, bad=bad, notes=layout.notes,
    )  # fmt: skip


def _labels(label: str, column: Column, positive: str | None) -> tuple[Encoded, str]:
    column = column.as_texts()
    texts = [text for text in column.texts if text.lower() not in MISSING]
    if not texts:
        raise InvalidInput("too_few_rows", f"no row has a label: column {label!r} is empty")
    if positive is None:
        forms = {_plain(text): text for text in texts}
        if len(forms) == 1:
            raise InvalidInput("one_class", f"label {label!r} is {texts[0]!r} in every row: nothing to tell apart")
        yes = [form for form in forms if form in _YES]
        if len(forms) != 2 or len(yes) != 1 or not (forms.keys() - set(yes)) <= _NO:
            shown = ", ".join(repr(text) for text in texts[:8]) + (" …" if len(texts) > 8 else "")
            raise InvalidInput(
                "positive_unknown", f"which value of {label!r} is a conversion? Say it with --positive; found {shown}"
            )
        positive = forms[yes[0]]
    elif _plain(positive) not in {_plain(text) for text in texts}:
        near = _nearest(positive, texts)
        shown = ", ".join(repr(text) for text in texts[:8])
        raise InvalidInput("positive_unknown", f"{label!r} is never {positive!r}{near}; found {shown}")
    wanted = _plain(positive)
    values = {text: float(_plain(text) == wanted) for text in texts}
    y = np.array([values.get(text, np.nan) for text in column.texts])[np.array(column.codes, dtype=np.int64)]
    return Encoded(y, faults=[(int(row), f"{label}: no label") for row in np.flatnonzero(np.isnan(y))]), positive


def _plain(text: str) -> str:
    value = number(text)
    return text.strip().lower() if value is None else f"{value:g}"


def _check_rows(path: Path, y: NDArray[np.float64], bad: tuple[BadRow, ...], label: str, positive: str) -> None:
    if len(bad) > len(y):
        first = "; ".join(f"line {b.line}: {b.reason}" for b in bad[:3])
        raise InvalidInput("too_many_bad_rows", f"{path}: {len(bad)} rows cannot be used, {len(y)} can: {first}")
    if len(y) < FEWEST_ROWS:
        raise InvalidInput("too_few_rows", f"{path}: {len(y)} usable rows; at least {FEWEST_ROWS} are needed")
    n_positive = int(y.sum())
    if n_positive in (0, len(y)):
        which = "no row" if n_positive == 0 else "every row"
        raise InvalidInput("one_class", f"{which} has {label} = {positive!r}: nothing to tell apart")
    if min(n_positive, len(y) - n_positive) < FEWEST_OF_A_CLASS:
        raise InvalidInput(
            "too_few_rows",
            f"{n_positive} of {len(y)} rows have {label} = {positive!r}; "
            f"at least {FEWEST_OF_A_CLASS} with and without are needed",
        )


def _must_have(raw: RawTable, name: str, code: str, what: str) -> None:
    if name not in raw.columns:
        near = _nearest(name, list(raw.columns))
        raise InvalidInput(code, f"there is no {what} {name!r}{near}; the columns are {', '.join(raw.columns)}")


def _nearest(name: str, names: list[str]) -> str:
    lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    return f" (did you mean {lower[close[0]]!r}?)" if close else ""
