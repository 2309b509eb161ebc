"""A plan follows from traffic and unit costs, and says so in numbers that scale."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInput
from serving.cli import main
from serving.plan import MIB, Traffic, UnitCosts, plan
from serving.unit_costs import read_costs


def test_twice_the_visitors_need_twice_the_rates_and_archive() -> None:
    one, two = plan(Traffic(1e6), UnitCosts()), plan(Traffic(2e6), UnitCosts())
    for name in ("signals_per_s", "peak_decisions_per_s", "archive_bytes_a_month", "live_bytes"):
        assert getattr(two, name) == pytest.approx(2 * getattr(one, name))


@given(st.floats(1e4, 1e9), st.floats(0.0, 5_000.0), st.floats(0.1, 10.0))
def test_the_busier_the_cheaper_a_decision_and_never_fewer_cores(
    visitors: float, batch_us: float, batch_ms: float
) -> None:
    costs = UnitCosts(decision_us=200.0, batch_us=batch_us, batch_ms=batch_ms, idle_cores=0.1)
    one, more = plan(Traffic(visitors), costs), plan(Traffic(1.5 * visitors), costs)
    assert one.cores <= more.cores
    for told in (one, more):
        assert 200.0 <= told.core_s_per_million_decisions <= 200.0 + batch_us
        busy = told.peak_signals_per_s * costs.signal_us + told.peak_decisions_per_s * told.core_s_per_million_decisions
        assert told.cores == pytest.approx(busy / 1e6 / Traffic(1.0).utilisation + costs.idle_cores)
    assert costs.of_decision(100.0) >= costs.of_decision(200.0)


def test_the_tail_of_the_journal_is_bounded_and_the_snapshots_are_not() -> None:
    small, large = plan(Traffic(1e3), UnitCosts()), plan(Traffic(1e7), UnitCosts())
    tail = 64 * 8 * MIB
    assert small.store_bytes < tail
    assert large.store_bytes == pytest.approx(UnitCosts().fixed_bytes + tail + 3e7 * UnitCosts().snapshot_bytes)


def test_more_than_half_a_node_gets_a_second_one() -> None:
    assert plan(Traffic(1e6), UnitCosts()).nodes == 1
    busy = plan(Traffic(1e6, decisions_per_visit=4000), UnitCosts())
    assert busy.nodes * 4 >= busy.cores + 4


def test_costs_measured_elsewhere_take_the_place_of_the_shipped_ones(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps([{"name": "machine"}, {"name": "unit cost: decision_us", "value": 900.0}]))
    assert read_costs(file) == replace(UnitCosts(), decision_us=900.0)
    file.write_text(json.dumps([{"name": "unit cost: decison_us", "value": 900.0}]))
    with pytest.raises(InvalidInput, match="decision_us"):
        read_costs(file)


def test_the_command_prints_what_the_plan_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--visitors-per-month", "1000000", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == pytest.approx(plan(Traffic(1e6), UnitCosts()).to_dict())
    assert main(["plan", "--visitors-per-month", "1000000"]) == 0
    assert "a million decisions" in capsys.readouterr().out
