"""Drift is named by its cause: what visitors were answered was wrong, or the rows are others than before."""

import numpy as np
import pytest

from training.drift import DriftWatch, feature_alarms
from training.psi import psi, psi_bound, shifts


def watch(rates, answers, n=2_500, seed=21):
    """A world whose rate of conversions goes through `rates` while the model answers as given."""
    rng = np.random.default_rng(seed)
    eye = DriftWatch()
    alarms = []
    for rate, answer in zip(rates, answers, strict=True):
        for label in (rng.random(n) < rate).astype(float):
            alarms.extend(eye.observe(float(label), answer))
    return alarms


def test_conversions_that_double_unforeseen_alarm_on_log_loss_and_residual():
    alarms = watch([0.1, 0.25], [0.1, 0.1])
    assert {alarm.cause for alarm in alarms} == {"log_loss", "residual"}
    assert all(2_500 < alarm.at_row <= 5_000 for alarm in alarms)
    assert "rose from" in next(a.sentence for a in alarms if a.cause == "log_loss")


def test_a_loss_that_falls_is_no_alarm_on_log_loss():
    alarms = watch([0.3, 0.1], [0.3, 0.3])
    assert {alarm.cause for alarm in alarms} == {"residual"}


def test_a_change_that_the_model_foresaw_leaves_the_residual_silent():
    assert "residual" not in {alarm.cause for alarm in watch([0.1, 0.3], [0.1, 0.3])}


def test_certain_and_wrong_answers_do_not_break_the_watch():
    eye = DriftWatch()
    for p, label in [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)] * 50:
        eye.observe(label, p)
    assert (eye.width, eye.n_rows) == (None, 200)


def test_rows_of_the_time_before_are_what_later_ones_are_held_against():
    labels = (np.random.default_rng(23).random(3_000) < 0.1).astype(float)
    eye = DriftWatch()
    eye.begin(labels[:1_000], [0.1] * 1_000)
    assert (eye.width, eye.n_rows) == (None, 0)
    alarms = [alarm for label in labels[1_000:] for alarm in eye.observe(1.0 - label, 0.1)]
    assert {alarm.cause for alarm in alarms} == {"log_loss", "residual"}
    assert alarms[0].at_row < 200
    assert eye.width <= 2_100


def test_the_index_is_that_of_the_textbook_and_symmetric():
    old, new = np.array([500_000, 500_000]), np.array([600_000, 400_000])
    assert psi(old, new) == pytest.approx(0.1 * np.log(0.6 / 0.5) + -0.1 * np.log(0.4 / 0.5), rel=1e-4)
    assert psi(old, new) == pytest.approx(psi(new, old))
    assert psi(old, old) == 0
    assert np.isfinite(psi(np.array([0, 100]), np.array([100, 0])))


def test_rows_that_stay_exceed_the_bound_as_often_as_it_says():
    rng = np.random.default_rng(22)
    n, alpha = 400, 0.05
    exceeded = 0
    for _ in range(n):
        old, new = (np.bincount(rng.integers(0, 10, size), minlength=10) for size in (4_000, 1_000))
        exceeded += psi(old, new) > psi_bound(4_000, 1_000, 10, alpha)
    assert 0.02 < exceeded / n < 0.085


def features(n, seed, moved=0.0):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(moved, 1, n), rng.integers(0, 5, n), rng.lognormal(size=n), np.full(n, np.nan)])
    x[rng.random(n) < 0.2, 2] = np.nan
    return x


NAMES, CODES = ("price", "device", "dwell", "never"), frozenset({"device"})


def test_rows_that_stay_are_no_shift():
    above = 0
    for seed in range(200):
        found = shifts(features(3_000, seed), features(1_000, seed + 1_000), NAMES, CODES, alpha=0.02)
        above += any(shift.psi > shift.bound for shift in found)
        assert feature_alarms(found, 1, 1) == ()
    assert above <= 9  # four expected


@pytest.mark.parametrize("column", [0, 1, 2])
def test_the_feature_that_moved_is_named_first(column):
    new = features(1_000, 5)
    new[:, column] = new[:, column] + 1 if column != 2 else np.nan
    found = shifts(features(3_000, 4), new, NAMES, CODES)
    assert found[0].feature == NAMES[column]
    assert [shift.feature for shift in found if shift.notable] == [NAMES[column]]
    (alarm,) = feature_alarms(found, 77, 1_000)
    assert (alarm.cause, alarm.at_row, alarm.width) == ("features", 77, 1_000)
    assert NAMES[column] in alarm.sentence


def test_a_shift_that_is_certain_but_small_is_no_alarm():
    found = shifts(features(60_000, 6), features(60_000, 7, moved=0.1), NAMES, CODES)
    assert found[0].psi > found[0].bound
    assert not found[0].notable
