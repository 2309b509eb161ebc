"""Rows of a table file: CSV, JSON lines or Parquet, gzip or not, separator detected; faults are told by line."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Final

from engine.errors import InvalidInput
from training.cells import MISSING, Column, number

_SEPARATORS: Final = ",;\t|"
_UTF16: Final = "UTF-16, not text in UTF-8"
_FOREIGN: Final = {
    b"\xff\xfe": _UTF16, b"\xfe\xff": _UTF16, b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\xfd7zXZ": "packed with xz", b"BZh": "packed with bzip2", b"\x28\xb5\x2f\xfd": "packed with zstd",
}  # fmt: skip
"""First bytes of what people hand over most often in place of a table."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row left out, and why; `line` counts from 1 in the file as it is read by eye."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class RawTable:
    """A file as text: columns in file order, the line each row began on, and the rows that could not be read."""

    columns: dict[str, Column]
    lines: array[int]
    bad: list[BadRow]


def read_rows(path: Path) -> RawTable:
    """Read a whole file. JSON lines are recognised by their first character, gzip and Parquet by their first bytes.

    Of a Parquet file a row's line is its number from 1. Objects inside objects become dotted columns; a key that a line
    lacks is an empty cell. Raises InvalidInput `table_unreadable` when the file is absent, empty, not text or broken as
    a whole, `not_installed` for Parquet without pyarrow.
    """
    try:
        _refuse_foreign(path)
        if _is_parquet(path):
            from training.parquet import read_parquet

            return read_parquet(path)
        with _open(path) as file:
            start = file.readline()
            while start and not start.strip():
                start = file.readline()
            if not start:
                raise InvalidInput("table_unreadable", f"{path} is empty")
            if start.lstrip().startswith("["):
                raise InvalidInput("table_unreadable", f"{path} is a JSON array: write one object a line instead")
            file.seek(0)
            return _read_json(file) if start.lstrip().startswith("{") else _read_csv(file, path)
    except (OSError, EOFError, zlib.error) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidInput("table_unreadable", f"{path} cannot be read: {words}") from error


def _refuse_foreign(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(8)
    what = next((words for magic, words in _FOREIGN.items() if start.startswith(magic)), None)
    if what is not None:
        expected = "expected CSV in UTF-8, JSON lines or Parquet, gzip or not"
        raise InvalidInput("table_unreadable", f"{path} is {what}; {expected}")


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b":
        with gzip.open(path) as packed:
            start = packed.read(4)
    return start == b"PAR1"


def _open(path: Path) -> IO[str]:
    with path.open("rb") as file:
        magic = file.read(2)
    # Bytes that are not UTF-8 become lone surrogates, by which their rows are found and reported.
    if magic == b"\x1f\x8b":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _read_csv(file: IO[str], path: Path) -> RawTable:
    separator = _separator(list(islice(file, 30)))
    file.seek(0)
    records = _records(csv.reader(file, delimiter=separator, skipinitialspace=True))
    _, first = next(records)
    fault = first if isinstance(first, str) else _fault(first, len(first))
    names = [cell.strip() or f"column_{index}" for index, cell in enumerate(first, 1)]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if fault or twice:
        raise InvalidInput(
            "table_unreadable", f"{path}: the first line is {fault}" if fault else f"{path}: two columns {twice[0]!r}"
        )
    table = RawTable({name: Column() for name in names}, array("q"), [])
    columns = list(table.columns.values())
    for line, cells in records:
        reason = cells if isinstance(cells, str) else _fault(cells, len(names))
        if reason:
            table.bad.append(BadRow(line, reason))
            continue
        table.lines.append(line)
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell.strip())
    if separator == ";":
        for column in columns:
            _read_decimal_commas(column)
    return table


def _read_decimal_commas(column: Column) -> None:
    """Where a semicolon separates, `1,5` is a number: in a column that holds such numbers and nothing else."""
    known = [text for text in column.texts if text.lower() not in MISSING]
    if not any("," in text for text in known) or any("." in text for text in known):
        return
    if all(number(text.replace(",", ".")) is not None for text in known):
        column.texts = {text.replace(",", "."): code for text, code in column.texts.items()}


def _records(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str] | str]]:
    """Each record with the line it begins on; a text in place of cells says why it cannot be read."""
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"not CSV: {error}"
            continue
        if any(cell.strip() for cell in cells):
            yield line, cells


def _fault(cells: list[str], width: int) -> str | None:
    if len(cells) != width:
        return f"{len(cells)} cells where the first line has {width}"
    for cell in cells:
        if "\0" in cell or (not cell.isascii() and any("\ud800" <= letter <= "\udfff" for letter in cell)):
            return "not text in UTF-8"
    return None


def _separator(sample: list[str]) -> str:
    """The separator that cuts the most lines of the sample into as many cells (> 1) as the first; comma if none."""

    def agreement(separator: str) -> tuple[int, int]:
        widths = [len(cells) for cells in csv.reader(sample, delimiter=separator) if cells]
        width = widths[0] if widths else 0
        return (sum(w == width for w in widths), width) if width > 1 else (0, 0)

    try:
        return max(_SEPARATORS, key=agreement)
    except csv.Error:
        return ","


def _read_json(file: IO[str]) -> RawTable:
    table = RawTable({}, array("q"), [])
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            cells = dict(_flat(row, "")) if isinstance(row, dict) else None
        except (ValueError, RecursionError):
            table.bad.append(BadRow(line, "not JSON"))
            continue
        if cells is None or _fault([text], 1):
            table.bad.append(BadRow(line, "not a JSON object in UTF-8"))
            continue
        for name in cells.keys() - table.columns.keys():
            # The earlier rows had nothing here.
            table.columns[name] = Column({"": 0}, array("i", bytes(4 * len(table.lines))))
        table.lines.append(line)
        for name, column in table.columns.items():
            column.append(cells.get(name, ""))
    in_order = {name: table.columns[name] for name in sorted(table.columns)}
    return RawTable(in_order, table.lines, table.bad)


def _flat(row: Mapping[str, object], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield prefix + key, text.strip()
