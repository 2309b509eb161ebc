"""Columns of cells: texts, or numbers where there are very many different ones."""

import math

import numpy as np
import pytest

from tests.training.builders import write
from training.cells import Column
from training.encode import encode
from training.rows import read_rows


def column(texts: list[str], room: float) -> Column:
    made = Column(_room=room)
    for text in texts:
        made.append(text)
    return made


def test_many_different_numbers_are_kept_as_numbers_and_mean_the_same():
    texts = [*(f"{i / 7:.3f}" for i in range(500)), "NA", "1e-3", "", "-4", *map(str, range(500))]
    plain, kept = column(texts, math.inf), column(texts, 50)
    assert kept.numbers is not None
    assert kept.texts == {}
    assert len(kept) == len(plain) == len(texts)
    np.testing.assert_array_equal(encode("a", kept).values, encode("a", plain).values)
    assert list(kept.cells())[1] == "0.143"
    assert list(kept.cells())[-1] == "499"


def test_a_few_other_texts_among_many_numbers_make_their_rows_bad():
    texts = [*map(str, range(400)), "soon", *map(str, range(400, 800))]
    kept = column(texts, 50)
    assert kept.numbers is not None
    assert encode("a", kept).faults == [(400, "a: 'soon' is not a number")]
    late = column([*texts, *(["never"] * 300)], 50)
    assert encode("a", late).faults == encode("a", column([*texts, *(["never"] * 300)], math.inf)).faults


@pytest.mark.parametrize("texts", [[f"90071992547409{i:04d}" for i in range(900)], [f"user{i}" for i in range(900)]])
def test_texts_and_numbers_whose_every_digit_counts_stay_texts(texts):
    kept = column(texts, 50)
    assert kept.numbers is None
    assert list(kept.cells()) == texts


def test_where_semicolons_separate_a_comma_is_a_decimal_point(tmp_path):
    lines = ["price;text;mixed;plain", "1,50;a,b;1,5;3", "-2;c;1.5;4", "NA;d;2;5"]
    table = read_rows(write(tmp_path / "t.csv", lines))
    found = {name: list(one.cells()) for name, one in table.columns.items()}
    assert found["price"] == ["1.50", "-2", "NA"]
    assert found["text"] == ["a,b", "c", "d"]
    assert found["mixed"] == ["1,5", "1.5", "2"]
    tabs = read_rows(write(tmp_path / "t.tsv", [line.replace(";", "\t") for line in lines]))
    assert list(tabs.columns["price"].cells()) == ["1,50", "-2", "NA"]
