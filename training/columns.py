"""Columns a command names: found, or the nearest name offered; numbers, or the first line that is none."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from training.cells import Column, number
from training.rows import RawTable


def column(raw: RawTable, name: str, option: str) -> Column:
    """The column of that name. Raises InvalidInput `column_missing` with the option it was for and the nearest name."""
    if name not in raw.columns:
        raise missing(raw.columns, name, option)
    return raw.columns[name]


def missing(names: Iterable[str], name: str, option: str) -> InvalidInput:
    """The error for a column that is not there."""
    lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    near = f" (did you mean {lower[close[0]]!r}?)" if close else ""
    known = ", ".join(lower.values())
    return InvalidInput("column_missing", f"{option}: no column {name!r}{near}; the columns are {known}")


def texts(found: Column) -> NDArray[np.str_]:
    """The cells as text, shape (n,)."""
    found = found.as_texts()
    return np.array(list(found.texts), dtype=np.str_)[np.array(found.codes, dtype=np.int64)]


def numbers(found: Column) -> NDArray[np.float64]:
    """The cells as numbers, shape (n,); NaN where a cell is none. True and false are 1 and 0."""
    if found.numbers is not None and not found.others:
        return np.array(found.numbers, dtype=np.float64)
    found = found.as_texts()
    values = [_number(text) for text in found.texts]
    return np.array(values, dtype=np.float64)[np.array(found.codes, dtype=np.int64)]


def _number(text: str) -> float:
    value = number(text)
    return {"true": 1.0, "false": 0.0}.get(text.lower(), math.nan) if value is None else value


def refuse_where(wrong: NDArray[np.bool_], raw: RawTable, name: str, code: str, expected: str) -> None:
    """Raises InvalidInput `code` naming the first line where `wrong` of shape (n,) holds, and how many there are."""
    rows = np.flatnonzero(wrong)
    if rows.size:
        cell = str(texts(raw.columns[name])[rows[0]])
        more = f", and {rows.size - 1:,} more such rows" if rows.size > 1 else ""
        raise InvalidInput(code, f"line {raw.lines[int(rows[0])]}: {name} is {cell[:40]!r}, expected {expected}{more}")
