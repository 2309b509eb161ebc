"""Metrics against independent, slower ways to the same numbers."""

import math

import numpy as np
import pytest

from training.metrics import (
    auc,
    base_log_loss,
    brier,
    calibration_bins,
    calibration_error,
    calibration_ratio,
    log_loss,
)


def test_auc_is_the_share_of_pairs_in_which_the_positive_ranks_higher():
    rng = np.random.default_rng(1)
    y = (rng.random(300) < 0.3).astype(float)
    p = np.round(rng.random(300) + 0.2 * y, 2)  # rounded: many ties
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y == 1] for b in p[y == 0]]
    assert auc(y, p) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_of_one_class_is_not_a_number():
    assert math.isnan(auc(np.zeros(3), np.array([0.1, 0.2, 0.3])))


def test_constant_scores_rank_no_better_than_chance():
    assert auc(np.array([0.0, 1.0, 1.0]), np.full(3, 0.4)) == 0.5


def test_log_loss_is_the_mean_surprise_and_stays_finite_at_certainty():
    y, p = np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.2, 0.5])
    assert log_loss(y, p) == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.5)) / 3)
    assert math.isfinite(log_loss(np.array([1.0]), np.array([0.0])))
    assert base_log_loss(np.array([1.0, 0.0])) == pytest.approx(math.log(2))


def test_brier_is_the_mean_squared_error():
    assert brier(np.array([1.0, 0.0]), np.array([0.7, 0.4])) == pytest.approx((0.09 + 0.16) / 2)


def test_calibration_bins_hold_every_row_once_and_rise():
    rng = np.random.default_rng(2)
    p = rng.random(1000)
    y = (rng.random(1000) < p).astype(float)
    bins = calibration_bins(y, p)
    assert sum(b.n for b in bins) == 1000
    assert len(bins) == 10
    assert [b.predicted for b in bins] == sorted(b.predicted for b in bins)
    assert sum(b.n * b.observed for b in bins) == pytest.approx(y.sum())
    assert calibration_error(bins) < 0.08
    assert calibration_error(calibration_bins(y, p**3)) > 0.15


def test_equal_probabilities_share_one_bin():
    assert len(calibration_bins(np.array([0.0, 1.0, 1.0, 0.0]), np.full(4, 0.3))) == 1


def test_calibration_ratio_says_how_many_conversions_were_promised_for_each_that_came():
    assert calibration_ratio(np.array([1.0, 0.0]), np.array([0.8, 0.4])) == pytest.approx(1.2)
