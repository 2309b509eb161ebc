"""ADWIN keeps a window of one mean: it seldom cries without cause, and forgets the past when it has one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.adwin import Adwin


def changes(values, **settings):
    detector = Adwin(**settings)
    return detector, [(at, change) for at, value in enumerate(values) if (change := detector.observe(float(value)))]


@pytest.mark.parametrize("rate", [0.03, 0.5])
def test_a_stream_that_stays_alarms_no_more_often_than_the_bound_allows(rate):
    rng = np.random.default_rng(11)
    n_streams, n_checks = 60, 2_000 // 32
    alarms = sum(bool(changes(rng.random(2_000) < rate)[1]) for _ in range(n_streams))
    assert alarms <= 0.002 * n_checks * n_streams
    assert alarms <= 2


@pytest.mark.parametrize(("before", "after", "direction"), [(0.05, 0.15, "rose"), (0.15, 0.05, "fell")])
def test_a_shift_is_noticed_within_a_thousand_values_and_the_old_part_forgotten(before, after, direction):
    rng = np.random.default_rng(12)
    for _ in range(20):
        values = np.concatenate([rng.random(3_000) < before, rng.random(1_500) < after])
        detector, found = changes(values)
        assert found
        assert all(change == direction for _, change in found)
        assert 3_000 < found[0][0] < 4_000
        assert detector.width < 2_200
        assert detector.mean == pytest.approx(after, abs=0.04)


def test_a_smaller_delta_needs_more_evidence():
    rng = np.random.default_rng(13)
    values = np.concatenate([rng.random(2_000) < 0.1, rng.random(2_000) < 0.3])
    eager, careful = (changes(values, delta=delta)[1][0][0] for delta in (0.05, 1e-9))
    assert 2_000 < eager < careful


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=400))
def test_without_a_change_the_window_is_all_there_was(values):
    detector, found = changes(values)
    assert found or (detector.width, detector.mean) == (len(values), pytest.approx(np.mean(values)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_spread_it_keeps_is_that_of_the_window(seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.beta(2, 8, 500), rng.beta(8, 2, 300)])
    detector, found = changes(values)
    window = values[-detector.width :]
    assert found
    assert detector.mean == pytest.approx(window.mean(), abs=1e-9)
    assert detector._whole.spread == pytest.approx(((window - window.mean()) ** 2).sum(), rel=1e-6)


def test_memory_grows_with_the_logarithm_of_the_window():
    detector, _ = changes(np.tile([0.0, 1.0], 5_000))
    assert detector.width == 10_000
    assert sum(map(len, detector._levels)) <= 6 * 14


@pytest.mark.parametrize("value", [float("nan"), -0.01, 1.01, float("inf")])
def test_what_is_not_in_its_range_is_refused(value):
    with pytest.raises(ValueError, match="is not in"):
        Adwin().observe(value)


def test_it_alarms_where_an_independent_implementation_does():
    drift = pytest.importorskip("river.drift", reason="river is not installed; it only serves as an oracle")
    rng = np.random.default_rng(14)
    for _ in range(10):
        values = np.concatenate([rng.random(2_500) < 0.1, rng.random(1_500) < 0.2]).astype(float)
        oracle, theirs = drift.ADWIN(delta=0.002, clock=32, min_window_length=5, grace_period=32), []
        for at, value in enumerate(values):
            oracle.update(value)
            if oracle.drift_detected:
                theirs.append(at)
        _, ours = changes(values)
        assert abs(ours[0][0] - theirs[0]) <= 64
