"""A model that learns by itself beside a frozen one, on rows that nobody looked ahead at."""

from dataclasses import replace

import numpy as np
import pytest

from engine.errors import InvalidInput
from tests.training.test_online import FEW, world
from training.backtest import backtest, backtest_from_table
from training.table import Table


def turning(n=4_000):
    """The first half of the world, then its opposite."""
    old, new = world(n // 2), world(n // 2, sign=-1, seed=42)
    return replace(old, x=np.concatenate([old.x, new.x]), y=np.concatenate([old.y, new.y]))


def test_both_models_answer_the_same_rows_and_learning_wins_where_the_world_turns():
    seen = []
    result = backtest(turning(), 1_000, 500, params=FEW, seen=seen.append)
    assert (result.n_rows, len(result.looks), seen) == (3_000, 6, list(result.looks))
    assert result.n_positive == int(turning().y[1_000:].sum())
    assert result.online.auc > result.frozen.auc + 0.1
    assert result.online.log_loss < result.frozen.log_loss
    assert result.alarms["log_loss"] >= 1
    assert result.n_promoted + result.n_refused == 6


def test_what_comes_later_changes_nothing_of_what_was_answered_before():
    table = turning()
    spoilt = replace(table, y=np.where(np.arange(4_000) < 3_500, table.y, 1 - table.y))
    one, two = backtest(table, 1_000, 500, params=FEW), backtest(spoilt, 1_000, 500, params=FEW)
    assert one.looks[:-1] == two.looks[:-1]
    assert one.looks[-1] != two.looks[-1]


def test_rows_after_the_last_look_are_counted():
    result = backtest(turning(), 1_000, 1_999, params=FEW)
    assert (result.n_rows, len(result.looks)) == (3_000, 1)


@pytest.mark.parametrize(
    ("start", "every", "code"),
    [(10, 10, "bad_parameters"), (1_000, 0, "bad_parameters"), (3_999, 10, "too_few_rows"), (200, 100, "too_few_rows")],
)
def test_a_start_or_step_that_cannot_be_is_refused_in_words(start, every, code):
    table = turning()
    late = Table(table.features, table.x, np.where(np.arange(4_000) < 500, 0.0, table.y), "test", servable=False)
    with pytest.raises(InvalidInput) as refusal:
        backtest(late, start, every)
    assert refusal.value.code == code


def test_an_end_with_one_outcome_only_is_refused():
    table = turning()
    with pytest.raises(InvalidInput) as refusal:
        backtest(replace(table, y=np.where(np.arange(4_000) < 1_000, table.y, 0.0)), 1_000, 100)
    assert refusal.value.code == "one_class"


@pytest.mark.data
def test_on_the_bank_in_time_order_learning_beats_the_frozen_model(data_sets):
    result = backtest_from_table(data_sets / "bank_additional_first_30000.csv.gz", "y", drop=["duration"])
    assert (result.n_rows, result.start, len(result.looks)) == (20_000, 10_000, 20)
    assert result.frozen.auc < 0.5
    assert result.online.auc - result.frozen.auc >= 0.08
    assert result.online.log_loss < result.frozen.log_loss - 0.01
    assert {"features", "log_loss", "residual"} <= set(result.alarms)
    assert any(look.promoted and look.why == "drift" for look in result.looks)
