"""`kairos backtest` as people meet it: a line for each look, the figures, and one clear line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from serving.cli import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """1,600 visits; from the 801st on it is the shallow ones that buy."""
    rng = np.random.default_rng(5)
    depth = rng.random(1_600)
    chance = np.where(np.arange(1_600) < 800, depth, 1 - depth) ** 2
    bought = (rng.random(1_600) < chance).astype(int)
    rows = [f"{d:.4f};{'north' if n % 2 else 'south'};{b}" for n, (d, b) in enumerate(zip(depth, bought, strict=True))]
    path = tmp_path / "visits.csv"
    path.write_text("\n".join(["how deep;shop;bought", *rows]) + "\n")
    return path


def test_it_shows_each_look_and_both_models(table, capsys):
    words = ["backtest", "--from", str(table), "--label", "bought", "--start", "600", "--every", "250"]
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in out if line.startswith("row ")] == ["250", "500", "750", "1,000"]
    for name in ("online", "frozen", "difference", "drift", "candidates"):
        assert sum(line.startswith(name) for line in out) == 1
    assert any("promoted" in line and line.startswith("row ") for line in out)


def test_json_is_one_document_and_the_same_for_a_seed(table, capsys):
    words = ["backtest", "--from", str(table), "--label", "bought", "--drop", "shop", "--start", "600",
             "--every", "250", "--seed", "3", "--json"]  # fmt: skip
    assert main(words) == 0
    first = capsys.readouterr().out
    assert main(words) == 0
    assert capsys.readouterr().out == first
    facts = json.loads(first)
    assert facts["features"] == ["how deep"]
    assert facts["online"]["auc"] > facts["frozen"]["auc"] + 0.05
    assert facts["difference"]["auc"] == facts["online"]["auc"] - facts["frozen"]["auc"]
    assert len(facts["looks"]) == 4 == facts["promoted"] + facts["refused"]
    named = {"gate", "passed", "value", "limit", "sentence", "figures", "undecided"}
    assert set(facts["looks"][0]["judgement"]["findings"][0]) == named


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--start", "5000"], "too_few_rows"),
        (["--start", "600", "--every", "0"], "bad_parameters"),
        (["--label", "sold"], "label_missing"),
        (["--drop", "shopp"], "column_missing"),
        (["--from", "nowhere.csv"], "table_unreadable"),
    ],
)
def test_what_is_wrong_is_one_line_and_no_trace(table, capsys, more, code):
    assert main(["backtest", "--from", str(table), "--label", "bought", *more]) == 2
    streams = capsys.readouterr()
    assert streams.err.count("\n") == 1
    assert f"({code})" in streams.err
