"""Columns of text into columns of numbers: numeric as it is, text as codes, the categories of the engine's schema."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.schema import DEVICES, NETWORKS, SYSTEMS, offer_code
from training.cells import MISSING, RARE, Column, number
from training.rows import BadRow

ENGINE_LABELS: Final = {"device_code": DEVICES, "os_code": SYSTEMS, "network_code": NETWORKS}
"""The engine's categorical features with a closed set of labels; the code of a label is its place."""
N_OFFER_CODES: Final = 251

_MOST_LABELS: Final = 500


@dataclass(slots=True)
class Encoded:
    """One column as float64 of shape (n,), NaN = missing. `labels` are those of a text column in code order.

    `faults` says for single rows why they cannot be used; `left_out` why the column as a whole cannot be.
    """

    values: NDArray[np.float64]
    labels: tuple[str, ...] | None = None
    faults: list[tuple[int, str]] = field(default_factory=list)
    left_out: str | None = None
    note: str | None = None


def encode(name: str, column: Column) -> Encoded:
    """A column of a table with its own schema: numbers, or else labels with codes in alphabetical order."""
    if column.numbers is not None:
        if len(column.others) <= RARE * np.isfinite(column.numbers).sum():
            return _kept_numbers(name, column, column.numbers, "a number")
        column = column.as_texts()
    codes = _codes(column)
    numbers = [_number_or_missing(text) for text in column.texts]
    counts = np.bincount(codes, minlength=len(numbers))
    strange = np.array([n is None for n in numbers], dtype=bool)
    known = [text for text in column.texts if text.lower() not in MISSING]
    n_known = counts.sum() - sum(counts[code] for text, code in column.texts.items() if text.lower() in MISSING)
    if counts[strange].sum() <= RARE * n_known:
        return _numeric(name, column, numbers)
    labels = tuple(sorted(known))
    if len(labels) > min(_MOST_LABELS, max(20, len(codes) // 4)):
        why = f"column {name!r} is left out: {len(labels)} different texts in {len(codes)} rows identify, not describe"
        return Encoded(np.empty(0), left_out=why)
    place = {label: float(code) for code, label in enumerate(labels)}
    return Encoded(np.array([place.get(text, math.nan) for text in column.texts])[codes], labels)


def encode_number(name: str, column: Column) -> Encoded:
    """A column that must hold numbers: every other text makes its row bad."""
    if column.numbers is not None:
        return _kept_numbers(name, column, column.numbers, "a number")
    return _by_text(name, column, _number_or_missing, "a number")


def _number_or_missing(text: str) -> float | None:
    return math.nan if text.lower() in MISSING else number(text)


def encode_engine_labels(name: str, column: Column) -> Encoded:
    """`device_code`, `os_code`, `network_code`: labels of the engine's set, or their codes; unknown labels are 0."""
    labels = ENGINE_LABELS[name]
    strange: set[str] = set()

    def code(text: str) -> float | None:
        if text.lower() in MISSING:
            return math.nan
        value = number(text)
        if value is not None:
            return value if value.is_integer() and 0 <= value < len(labels) else None
        if text.lower() not in labels:
            strange.add(text)
            return 0.0
        return float(labels.index(text.lower()))

    encoded = _by_text(name, column, code, f"a code from 0 to {len(labels) - 1}")
    if strange:
        shown = ", ".join(sorted(strange)[:5])
        encoded.note = f"{name}: {len(strange)} unknown labels count as {labels[0]!r} ({shown})"
    encoded.labels = labels
    return encoded


def encode_offer(name: str, column: Column) -> Encoded:
    """`offer_code`: an offer's name or its code; an empty cell or `none` is no offer, 0."""

    def code(text: str) -> float | None:
        if text.lower() in MISSING:
            return 0.0
        value = number(text)
        if value is None:
            return float(offer_code(text))
        return value if value.is_integer() and 0 <= value < N_OFFER_CODES else None

    return _by_text(name, column, code, f"a code from 0 to {N_OFFER_CODES - 1}")


def encode_time(name: str, column: Column) -> Encoded:
    """Times in epoch ms: ISO 8601 (no zone = UTC), or epoch seconds or ms (from 10¹¹ on)."""

    def moment(text: str) -> float | None:
        value = number(text)
        if value is not None:
            return float(round(value if abs(value) >= 1e11 else value * 1000))
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            return None
        return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000.0)

    return _by_text(name, column, moment, "a time")


def _by_text(name: str, column: Column, code: Callable[[str], float | None], expected: str) -> Encoded:
    column = column.as_texts()
    return _numeric(name, column, [code(text) for text in column.texts], expected)


def _kept_numbers(name: str, column: Column, numbers: array[float], expected: str) -> Encoded:
    faults = [(row, f"{name}: {text[:40]!r} is not {expected}") for row, text in column.others.items()]
    return Encoded(np.frombuffer(numbers, dtype=np.float64), faults=faults)


def _numeric(name: str, column: Column, numbers: list[float | None], expected: str = "a number") -> Encoded:
    """From one number for each distinct text: NaN where it is missing, None where the rows that hold it are bad."""
    texts, codes = list(column.texts), _codes(column)
    values = np.array([math.nan if n is None else n for n in numbers], dtype=np.float64)
    strange = np.array([n is None for n in numbers], dtype=bool)
    bad = np.flatnonzero(strange[codes])
    faults = [(int(row), f"{name}: {texts[codes[row]][:40]!r} is not {expected}") for row in bad]
    return Encoded(values[codes], faults=faults)


def _codes(column: Column) -> NDArray[np.int64]:
    return np.array(column.codes, dtype=np.int64)


def bad_rows(encoded: list[Encoded], lines: list[int]) -> Iterator[BadRow]:
    """The first fault of each row that has one, by line."""
    first: dict[int, str] = {}
    for column in encoded:
        for row, reason in column.faults:
            first.setdefault(row, reason)
    for row in sorted(first):
        yield BadRow(lines[row], first[row])
