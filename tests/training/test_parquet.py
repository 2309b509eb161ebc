"""A Parquet file teaches exactly what the same rows teach as CSV."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime

import numpy as np
import pytest

from engine.errors import InvalidInput
from tests.training.builders import csv_lines, write
from training.backtest import backtest_from_table
from training.encode import encode
from training.parquet import BATCH_ROWS
from training.rows import read_rows
from training.train import train_from_table

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def test_the_same_rows_give_the_same_model_as_csv_and_packed(tmp_path):
    head, *lines = csv_lines(300)
    cells = [line.split(",") for line in lines]
    table = pa.table({
        name: [convert(row[i]) for row in cells]
        for i, (name, convert) in enumerate(zip(head.split(","), (float, str, int), strict=True))
    })  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "t.parquet.gz").write_bytes(gzip.compress((tmp_path / "t.parquet").read_bytes()))
    few = {"n_rounds": 10}
    of_csv = train_from_table(write(tmp_path / "t.csv", [head, *lines]), "bought", created_ms=1, params=few)
    for name in ("t.parquet", "t.parquet.gz"):
        found = train_from_table(tmp_path / name, "bought", created_ms=1, params=few)
        assert found.model.blob == of_csv.model.blob
        assert found.metrics == of_csv.metrics
    assert backtest_from_table(tmp_path / "t.parquet", "bought", start=150, every=100, params=few).n_rows == 150


def test_types_become_the_texts_a_csv_would_hold(tmp_path):
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    rows = [
        {"n": 1.5, "yes": True, "at": at, "who": {"city": "Köln", "age": 3}, "tags": ["a"], "label": "x"},
        {"n": None, "yes": False, "at": None, "who": None, "tags": None, "label": None},
    ]
    table = pa.Table.from_pylist(rows)
    table = table.set_column(table.schema.get_field_index("label"), "label", table["label"].dictionary_encode())
    pq.write_table(table, tmp_path / "t.parquet")
    raw = read_rows(tmp_path / "t.parquet")
    texts = {name: [{c: t for t, c in column.texts.items()}[code] for code in column.codes]
             for name, column in raw.columns.items()}  # fmt: skip
    assert texts == {
        "n": ["1.5", ""], "yes": ["true", "false"], "at": ["2026-05-01T12:00:00+00:00", ""],
        "who.city": ["Köln", ""], "who.age": ["3", ""], "tags": ['["a"]', ""], "label": ["x", ""],
    }  # fmt: skip
    assert list(raw.lines) == [1, 2]
    assert raw.bad == []


def test_a_file_of_many_batches_is_read_whole_and_in_order(tmp_path):
    n = BATCH_ROWS + 7
    pq.write_table(pa.table({"a": np.arange(n)}), tmp_path / "t.parquet", row_group_size=20_000)
    column = read_rows(tmp_path / "t.parquet").columns["a"]
    np.testing.assert_array_equal(encode("a", column).values, np.arange(n))


def test_a_file_that_is_cut_off_is_named(tmp_path):
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-9])
    with pytest.raises(InvalidInput, match="cannot be read as Parquet") as refusal:
        read_rows(tmp_path / "cut.parquet")
    assert refusal.value.code == "table_unreadable"
