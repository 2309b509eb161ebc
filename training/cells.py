"""Cells of a table: what a text says, and columns of them in little memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""Texts that mean "not known", whatever their case."""
RARE: Final = 0.01
"""A column of numbers with at most this share of other texts stays one; the rows with those texts are bad."""
MOST_TEXTS: Final = 1 << 16
"""The different texts from which on a column of numbers is kept as numbers: a text and its place take 150 bytes."""
_EXACT_DIGITS: Final = 15


def number(text: str) -> float | None:
    """The number a text says, or None. Infinity and Python's `1_000` are not numbers here.

    >>> number("1e3"), number("-0.5"), number("1_000"), number("inf"), number("12 EUR")
    (1000.0, -0.5, None, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


@dataclass(slots=True)
class Column:
    """One column, stored as codes into its distinct texts (`""` = nothing there).

    Of very many different numbers the numbers are kept instead, NaN where there is none: then `texts` and `codes` are
    empty, and `others` has the text of each row that says something else. `cells` gives texts either way.
    """

    texts: dict[str, int] = field(default_factory=dict)
    codes: array[int] = field(default_factory=lambda: array("i"))
    numbers: array[float] | None = None
    others: dict[int, str] = field(default_factory=dict)
    _room: float = MOST_TEXTS

    def append(self, text: str) -> None:
        """Add one cell."""
        if self.numbers is not None:
            self._add_number(text)
            return
        self.codes.append(self.texts.setdefault(text, len(self.texts)))
        if len(self.texts) > self._room:
            self._keep_numbers()

    def __len__(self) -> int:
        """How many cells there are."""
        return len(self.codes if self.numbers is None else self.numbers)

    def cells(self) -> Iterator[str]:
        """The text of each cell in turn; of a column kept as numbers the shortest that says the same number."""
        if self.numbers is None:
            texts = list(self.texts)
            yield from (texts[code] for code in self.codes)
            return
        for row, value in enumerate(self.numbers):
            yield self.others.get(row, "") if math.isnan(value) else _shortest(value)

    def as_texts(self) -> Column:
        """The same column as codes into its texts."""
        if self.numbers is None:
            return self
        found = Column(_room=math.inf)
        for text in self.cells():
            found.append(text)
        return found

    def _keep_numbers(self) -> None:
        values = [number(text) for text in self.texts]
        strange = {code for text, code in self.texts.items() if values[code] is None and text.lower() not in MISSING}
        n_strange = sum(code in strange for code in self.codes) if strange else 0
        if n_strange > RARE * len(self.codes) or any(map(_is_long, self.texts)):
            self._room = math.inf  # texts, or numbers whose every digit counts
            return
        texts = list(self.texts)
        self.others = {row: texts[code] for row, code in enumerate(self.codes) if code in strange} if strange else {}
        plain = [math.nan if value is None else value for value in values]
        self.numbers = array("d", (plain[code] for code in self.codes))
        self.texts, self.codes = {}, array("i")

    def _add_number(self, text: str) -> None:
        assert self.numbers is not None
        value = number(text)
        if value is None:
            if text.lower() not in MISSING:
                self.others[len(self.numbers)] = text
            value = math.nan
        self.numbers.append(value)


def _shortest(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 10**_EXACT_DIGITS else repr(value)


def _is_long(text: str) -> bool:
    return len(text) > _EXACT_DIGITS and text.isdigit()
