"""Rows of table files as they come: separators, quotes, gzip, bad lines, JSON."""

import codecs

import pytest

from engine.errors import InvalidInput
from tests.training.builders import csv_lines, write
from training.rows import read_rows


def texts(table, name: str) -> list[str]:
    column = table.columns[name]
    back = {code: text for text, code in column.texts.items()}
    return [back[code] for code in column.codes]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("packed", [False, True])
def test_separator_and_gzip_are_detected(tmp_path, separator, packed):
    table = read_rows(write(tmp_path / "t", csv_lines(50, separator), packed))
    assert list(table.columns) == ["depth", "shop", "bought"]
    assert len(table.lines) == 50
    assert texts(table, "shop")[:3] == ["south", "north", "south"]
    assert table.bad == []


def test_quoted_cells_keep_separators_and_line_ends_and_lines_stay_counted(tmp_path):
    table = read_rows(write(tmp_path / "t", ["a,b", '"x, y","1\n2"', "z,3", "only one", "w,4"]))
    assert texts(table, "a") == ["x, y", "z", "w"]
    assert list(table.lines) == [2, 4, 6]
    assert [(b.line, b.reason) for b in table.bad] == [(5, "1 cells where the first line has 2")]


def test_a_byte_order_mark_and_windows_line_ends_do_not_show(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(codecs.BOM_UTF8 + b"a;b\r\n1;2\r\n\r\n3;4\r\n")
    table = read_rows(path)
    assert {name: texts(table, name) for name in table.columns} == {"a": ["1", "3"], "b": ["2", "4"]}
    assert list(table.lines) == [2, 4]


def test_rows_that_are_not_utf8_are_reported_by_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n1,2\ncaf\xe9,3\n4,5\x00\ncaf\xc3\xa9,6\n")
    table = read_rows(path)
    assert texts(table, "a") == ["1", "café"]
    assert [(b.line, b.reason) for b in table.bad] == [(3, "not text in UTF-8"), (4, "not text in UTF-8")]


def test_json_lines_may_differ_in_their_keys_and_nest(tmp_path):
    lines = ['{"a": 1, "user": {"city": "Ulm"}}', "", '{"b": true}', "[1]", '{"a": ', '{"a": null, "b": "x"}']
    table = read_rows(write(tmp_path / "t.jsonl", lines, packed=True))
    assert {name: texts(table, name) for name in table.columns} == {
        "a": ["1", "", ""], "b": ["", "true", "x"], "user.city": ["Ulm", "", ""],
    }  # fmt: skip
    assert list(table.lines) == [1, 3, 6]
    assert [(b.line, b.reason) for b in table.bad] == [(4, "not a JSON object in UTF-8"), (5, "not JSON")]


def test_a_json_line_as_deep_as_a_well_is_a_bad_row(tmp_path):
    table = read_rows(write(tmp_path / "t", ['{"a": 1}', '{"a":' * 50_000 + "1" + "}" * 50_000]))
    assert [b.line for b in table.bad] == [2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n  \n", "is empty"),
        (b"a,b,a\n1,2,3\n", "two columns 'a'"),
        (b'[{"a": 1}]', "JSON array"),
        (b"PAR1\x00\x00", "as Parquet"),
        (b"\x1f\x8b\x08broken", "cannot be read"),
        ("a,b\n1,2\n".encode("utf-16"), "not text in UTF-8"),
    ],
)
def test_files_that_are_no_table_are_refused_with_the_reason(tmp_path, content, words):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(InvalidInput, match=words) as refusal:
        read_rows(tmp_path / "t")
    assert refusal.value.code == "table_unreadable"


def test_a_file_that_is_absent_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_rows(path)


@pytest.mark.parametrize(
    ("blob", "what"),
    [("a,b\n1,2\n".encode("utf-16"), "UTF-16"), (b"PK\x03\x04rest", "a spreadsheet"), (b"\xfd7zXZ\x00rest", "xz")],
)
def test_what_is_no_table_is_called_by_its_name(tmp_path, blob, what):
    path = tmp_path / "t.csv"
    path.write_bytes(blob)
    with pytest.raises(InvalidInput, match=what) as caught:
        read_rows(path)
    assert caught.value.code == "table_unreadable"
