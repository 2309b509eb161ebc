"""A file becomes a table: labels, codes, the engine's layout, and clear words where it cannot."""

import numpy as np
import pytest

from engine.errors import InvalidInput
from engine.schema import DEVICES, MODEL_FEATURES, offer_code, schema_hash
from tests.training.builders import csv_lines, write
from training.table import read_table


def column(table, name: str) -> np.ndarray:
    return table.x[:, table.features.index(name)]


def refusal(path, *args, **named) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        read_table(path, *args, **named)
    return caught.value


def test_text_columns_become_codes_in_alphabetical_order_with_their_labels_kept(tmp_path):
    table = read_table(write(tmp_path / "t.csv", csv_lines(header="deep,shop,bought")), "bought")
    assert table.features == ("deep", "shop")
    assert table.categorical == ("shop",)
    assert table.categories == {"shop": ("north", "south")}
    assert column(table, "shop")[:3].tolist() == [1.0, 0.0, 1.0]
    assert table.y.mean() == pytest.approx(0.33, abs=0.02)
    assert not table.servable
    assert "none of its columns is a feature of the engine" in table.why_not


def test_missing_markers_are_missing_values(tmp_path):
    lines = csv_lines(header="deep,shop,bought")
    lines += [",NULL,1", "NA,north,0", "nan,?,0"]
    table = read_table(write(tmp_path / "t.csv", lines), "bought")
    assert np.isnan(column(table, "deep")[-3:]).all()
    assert np.isnan(column(table, "shop")[[-3, -1]]).all()
    assert table.bad == ()


def test_bad_rows_are_left_out_and_reported_with_line_and_reason(tmp_path):
    lines = csv_lines(header="deep,shop,bought")
    lines[5] = "12 EUR,north,1"
    lines[9] = "0.5,north"
    lines[11] = "0.5,north,"
    table = read_table(write(tmp_path / "t.csv", lines), "bought")
    assert [(b.line, b.reason) for b in table.bad] == [
        (6, "deep: '12 EUR' is not a number"), (10, "2 cells where the first line has 3"), (12, "bought: no label"),
    ]  # fmt: skip
    assert len(table.y) == 197


def test_the_order_of_rows_follows_the_time_column_which_is_no_feature(tmp_path):
    lines = ["deep,at,bought", *(f"{i},2024-01-{1 + (i * 7) % 28:02d}T00:00:00Z,{i % 2}" for i in range(120))]
    table = read_table(write(tmp_path / "t.csv", lines), "bought", time="at")
    assert table.features == ("deep",)
    assert (np.diff(table.times) >= 0).all()
    assert table.times[0] == 1_704_067_200_000
    assert column(table, "deep")[0] == 0.0


def test_columns_of_the_engine_take_its_layout_and_accept_labels_or_codes(tmp_path):
    devices = ["mobile", "3", "Tablet", "fridge"]
    offers = ["", "free_shipping", "7", "none"]
    lines = [
        "extra,offer_code,device_code,depth,bought",
        *(f"x,{offers[i % 4]},{devices[i % 4]},{i / 200},{i % 3 // 2}" for i in range(200)),
    ]
    table = read_table(write(tmp_path / "t.csv", lines), "bought")
    assert table.servable
    assert table.why_not is None
    assert table.features == MODEL_FEATURES
    assert table.schema_hash == schema_hash()
    assert column(table, "device_code")[:4].tolist() == [1.0, 3.0, 2.0, 0.0]
    assert column(table, "offer_code")[:4].tolist() == [0.0, float(offer_code("free_shipping")), 7.0, 0.0]
    assert np.isnan(column(table, "n_clicks")).all()
    assert table.categories["device_code"] == DEVICES
    assert table.notes == (
        "device_code: 1 unknown labels count as 'other' (fridge)", "not features of the engine, ignored: extra",
    )  # fmt: skip


def test_a_code_outside_its_set_makes_a_bad_row(tmp_path):
    lines = ["device_code,bought", *(f"{i % 5},{i % 2}" for i in range(200)), "6,1", "1.5,1"]
    table = read_table(write(tmp_path / "t.csv", lines), "bought")
    assert [(b.line, b.reason) for b in table.bad] == [
        (202, "device_code: '6' is not a code from 0 to 5"), (203, "device_code: '1.5' is not a code from 0 to 5"),
    ]  # fmt: skip


def test_a_column_that_only_shares_the_name_of_a_feature_does_not_serve(tmp_path):
    lines = ["recency,shop,bought", *(f"{1 + i % 12},{i % 4},{i % 2}" for i in range(200))]
    table = read_table(write(tmp_path / "t.csv", lines), "bought")
    assert not table.servable
    assert table.features == ("recency", "shop")
    assert "'recency'" in table.why_not
    assert "from 1 to 12" in table.why_not
    assert table.schema_hash != schema_hash()


def test_texts_that_identify_rows_are_left_out_and_named(tmp_path):
    lines = ["deep,user,bought", *(f"{i % 9},u{i}x,{i % 2}" for i in range(200))]
    table = read_table(write(tmp_path / "t.csv", lines), "bought")
    assert table.features == ("deep",)
    assert "'user' is left out: 200 different texts" in table.notes[0]


@pytest.mark.parametrize(
    ("texts", "positive", "found"),
    [
        (("TRUE", "FALSE"), None, "TRUE"), (("no", "yes"), None, "yes"), (("0", "1.0"), None, "1.0"),
        (("0", "1"), "1.0", "1.0"), (("won", "lost"), "WON", "WON"), (("a", "b"), "b", "b"),
    ],
)  # fmt: skip
def test_the_positive_label_is_understood_or_given(tmp_path, texts, positive, found):
    lines = ["deep,bought", *(f"{i},{texts[i % 2]}" for i in range(200))]
    table = read_table(write(tmp_path / "t.csv", lines), "bought", positive)
    assert table.positive == found
    assert table.y.sum() == 100


def test_a_wrong_label_name_names_the_nearest(tmp_path):
    error = refusal(write(tmp_path / "t.csv", csv_lines()), "Bougt")
    assert error.code == "label_missing"
    assert "did you mean 'bought'?" in error.message
    assert "depth, shop, bought" in error.message


def test_a_wrong_column_to_drop_names_the_nearest(tmp_path):
    error = refusal(write(tmp_path / "t.csv", csv_lines()), "bought", drop=["shopp"])
    assert error.code == "column_missing"
    assert "did you mean 'shop'?" in error.message


def test_a_label_with_no_plain_yes_asks_which_value_it_is(tmp_path):
    path = write(tmp_path / "t.csv", ["a,b", *(f"{i},{'xyz'[i % 3]}" for i in range(200))])
    assert refusal(path, "b").code == "positive_unknown"
    assert "'x', 'y', 'z'" in refusal(path, "b").message
    assert "'b' is never 'w'" in refusal(path, "b", "w").message


def test_tables_from_which_nothing_can_be_learned_are_refused(tmp_path):
    one = write(tmp_path / "one.csv", ["a,b", *(f"{i},0" for i in range(200))])
    few = write(tmp_path / "few.csv", ["a,b", *(f"{i},{i % 2}" for i in range(50))])
    rare = write(tmp_path / "rare.csv", ["a,b", *(f"{i},{int(i < 4)}" for i in range(500))])
    bare = write(tmp_path / "bare.csv", ["b", *(f"{i % 2}" for i in range(200))])
    empty = write(tmp_path / "empty.csv", ["a,b", *(f"{i}," for i in range(200))])
    broken = write(tmp_path / "broken.csv", ["a,b", *(f"{i},{i % 2}" for i in range(120)), *["x"] * 300])
    codes = {path.stem: refusal(path, "b").code for path in (one, few, rare, bare, empty, broken)}
    assert codes == {
        "one": "one_class", "few": "too_few_rows", "rare": "too_few_rows", "bare": "no_features",
        "empty": "too_few_rows", "broken": "too_many_bad_rows",
    }  # fmt: skip
    assert "4 of 500 rows" in refusal(rare, "b").message


def test_a_table_without_columns_left_is_refused(tmp_path):
    path = write(tmp_path / "t.csv", csv_lines())
    assert refusal(path, "bought", drop=["depth", "shop"]).code == "no_features"
