"""Parquet files as raw tables, each value as the text a CSV would hold; the one file of `training` with pyarrow."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from array import array
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from engine.errors import InvalidInput
from training.cells import Column
from training.rows import RawTable

BATCH_ROWS: Final = 50_000


def read_parquet(path: Path) -> RawTable:
    """Read a whole file, batch by batch; objects become dotted columns, lists are JSON.

    Raises InvalidInput `table_unreadable`, `not_installed` without the extra `kairos[export]`.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InvalidInput("not_installed", f"{path} is Parquet: install pyarrow (kairos[export])") from None
    try:
        with parquet.ParquetFile(_source(path)) as file:
            table = RawTable({}, array("q"), [])
            n = 0
            for batch in file.iter_batches(BATCH_ROWS):
                flat = batch.to_struct_array().flatten() if batch.num_columns else []
                for name, values in zip(batch.schema.names, flat, strict=True):
                    _add(table, name, values.to_pylist(), n)
                n += batch.num_rows
                for column in table.columns.values():
                    # What an object lacked in every row of the batch.
                    for _ in range(n - len(column)):
                        column.append("")
            table.lines.extend(range(1, n + 1))
            return table
    except (ArrowException, OSError, ValueError, EOFError, zlib.error) as error:
        words = " ".join(str(error).split())[:200]
        raise InvalidInput("table_unreadable", f"{path} cannot be read as Parquet: {words}") from error


def _source(path: Path) -> Path | io.BytesIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return io.BytesIO(gzip.decompress(path.read_bytes())) if packed else path


def _add(table: RawTable, name: str, values: list[Any], before: int) -> None:
    if any(isinstance(value, dict) for value in values):
        known = dict.fromkeys(key for value in values if isinstance(value, dict) for key in value)
        for key in known:
            part = [value.get(key) if isinstance(value, dict) else None for value in values]
            _add(table, f"{name}.{key}", part, before)
        return
    column = table.columns.get(name)
    if column is None:
        column = table.columns[name] = Column({"": 0}, array("i", bytes(4 * before)))
    for value in values:
        column.append(_text(value))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return str(value)
