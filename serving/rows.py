"""Rows of a file of events, one at a time with their line numbers: CSV, JSON lines or a log, gzip or not."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import orjson

from engine.errors import InvalidInput
from serving.mapping import CsvFormat, JsonlFormat, LogFormat, ReplayMap

Row = Mapping[str, Any]
MAX_LINE = 16 * 1024 * 1024
"""Characters of one line; a longer one is malformed, so that a file without line ends cannot fill the memory."""
_GZIP = b"\x1f\x8b"
_UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
BROKEN_GZIP = EOFError, gzip.BadGzipFile, zlib.error


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is not what the map says; it is reported and skipped."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """A row, the line it stands on, and its content in one stable text."""

    line: int
    row: Row
    content: str


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The file as text, unpacked where it is gzip; `-` is standard input.

    Raises:
        InvalidInput: `file_unreadable`.
    """
    try:
        raw = sys.stdin.buffer if str(path) == "-" else path.open("rb")
    except OSError as error:
        raise InvalidInput("file_unreadable", f"{path}: {error.strerror}") from None
    with raw:
        buffered: Any = raw
        plain: Any = gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == _GZIP else buffered
        try:
            first = plain.peek(2)[:2]
        except BROKEN_GZIP as error:
            raise InvalidInput("file_unreadable", f"{path}: the gzip is broken: {error}") from None
        # Spreadsheets write "Unicode text" as UTF-16.
        encoding = "utf-16" if first in _UTF_16 else "utf-8-sig"
        yield io.TextIOWrapper(plain, encoding=encoding, errors="replace", newline="")


def rows(text: TextIO, mapping: ReplayMap, columns: list[str] | None = None) -> Iterator[Found | Malformed]:
    """Every row or malformed line, in the order of the file.

    Raises:
        InvalidInput: `file_unreadable`, where a gzip is broken or ends too early.
    """
    form = mapping.format
    if isinstance(form, CsvFormat):
        return _whole(_csv_rows(text, form, columns))
    return _whole(_jsonl_rows(text, form) if isinstance(form, JsonlFormat) else _log_rows(text, form))


def _whole(found: Iterator[Found | Malformed]) -> Iterator[Found | Malformed]:
    try:
        yield from found
    except BROKEN_GZIP as error:
        raise InvalidInput("file_unreadable", f"the gzip is broken: {error}") from None


def csv_columns(text: TextIO, form: CsvFormat) -> tuple[list[str], str]:
    """The columns and the separator of a CSV; reads its first line unless the map names the columns."""
    if form.columns is not None and form.separator != "auto":
        return list(form.columns), form.separator
    if form.columns is not None:
        return list(form.columns), ","
    header = text.readline(MAX_LINE)
    separator = form.separator
    if separator == "auto":
        separator = max(",;\t|", key=header.count)
    return next(csv.reader([header], delimiter=separator), []), separator


def _lines(text: TextIO) -> Iterator[tuple[int, str | None]]:
    """Lines with their numbers; None for one that is too long."""
    number = 0
    while line := text.readline(MAX_LINE):
        number += 1
        whole = line.endswith("\n") or len(line) < MAX_LINE
        while not line.endswith("\n") and len(line) == MAX_LINE:
            line = text.readline(MAX_LINE)
        yield number, line.rstrip("\r\n") if whole else None


def _csv_rows(text: TextIO, form: CsvFormat, columns: list[str] | None) -> Iterator[Found | Malformed]:
    separator = form.separator
    if columns is None or separator == "auto":
        columns, separator = csv_columns(text, form)
    offset = 0 if form.columns is not None else 1
    reader = csv.reader(text, delimiter=separator)
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Malformed(reader.line_num + offset, str(error))
            continue
        if not values:
            continue
        line = reader.line_num + offset
        if len(values) != len(columns):
            yield Malformed(line, f"{len(values)} columns, expected {len(columns)}")
            continue
        yield Found(line, dict(zip(columns, values, strict=True)), "\x1f".join(values))


def _jsonl_rows(text: TextIO, form: JsonlFormat) -> Iterator[Found | Malformed]:
    for number, line in _lines(text):
        if line is not None and not line.strip():
            continue
        try:
            given = orjson.loads(line) if line is not None else None
        except orjson.JSONDecodeError as error:
            yield Malformed(number, f"not JSON: {error}")
            continue
        if not isinstance(given, dict):
            yield Malformed(number, "expected a JSON object" if line is not None else "the line is too long")
            continue
        yield from _objects(number, given, form)


def _objects(number: int, given: dict[str, Any], form: JsonlFormat) -> Iterator[Found | Malformed]:
    if form.events is None:
        yield Found(number, _flat(given), orjson.dumps(given, option=orjson.OPT_SORT_KEYS).decode())
        return
    events = _flat(given).get(form.events)
    if not isinstance(events, list):
        yield Malformed(number, f"no list of events named {form.events}")
        return
    parent = _flat({k: v for k, v in given.items() if k != form.events})
    for place, event in enumerate(events):
        if not isinstance(event, dict):
            yield Malformed(number, f"event {place + 1} of the list is not an object")
            continue
        row = {**parent, **_flat(event)}
        yield Found(number, row, orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode())


def _flat(given: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as dotted columns: {"user": {"id": 1}} is the column user.id."""
    flat: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _log_rows(text: TextIO, form: LogFormat) -> Iterator[Found | Malformed]:
    pattern = re.compile(form.pattern)
    for number, line in _lines(text):
        if line is not None and not line.strip():
            continue
        match = pattern.match(line) if line is not None else None
        if match is None:
            yield Malformed(number, "does not match the pattern" if line is not None else "the line is too long")
            continue
        assert line is not None
        yield Found(number, match.groupdict(), line)
