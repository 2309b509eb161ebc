"""Confidence sequences hold at every look, agree with their own tests, and two arms make one stream."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from engine.errors import InvalidInput
from training.sequences import Running, bounds, contrast, interval, mean_above_log_e, mean_log_e, tuning


def paired_differences(rng: np.random.Generator, n: int, better: float = 0.0) -> np.ndarray:
    """Log-loss of challenger − champion where both are equally wrong, each in its own way: skewed and rare."""
    truth = rng.beta(1, 15, n)
    y = rng.random(n) < truth
    logit = np.log(truth / (1 - truth))
    # Noise that is the same in law for both, less of it for a better challenger.
    p, q = (1 / (1 + np.exp(-(logit + rng.normal(scale=s, size=n)))) for s in (0.4, 0.4 * (1 - better)))
    return np.where(y, np.log(p) - np.log(q), np.log1p(-p) - np.log1p(-q))


def running(values: np.ndarray) -> Running:
    made = Running()
    made.add(values)
    return made


def test_a_running_variance_is_the_variance_of_the_whole():
    values = np.random.default_rng(1).normal(1e6, 1, 999)
    parts = Running()
    for part in np.array_split(values, 7):
        parts.add(part)
    assert parts.n == 999
    assert parts.mean == pytest.approx(values.mean(), rel=1e-12)
    assert parts.variance == pytest.approx(values.var(), rel=1e-9)
    with pytest.raises(InvalidInput, match="finite"):
        parts.add([1.0, math.nan])
    assert parts.n == 999


def test_the_interval_is_the_published_formula():
    made = running(np.random.default_rng(2).exponential(size=5000))
    eta = tuning(0.05, 10_000)
    t = 5000
    width = made.variance**0.5 * math.sqrt(
        2 * (t * eta**2 + 1) / (t**2 * eta**2) * math.log(math.sqrt(t * eta**2 + 1) / 0.05)
    )
    low, high = interval(made, 0.05)
    assert (low, high) == pytest.approx((made.mean - width, made.mean + width), abs=1e-12)


def test_an_interval_and_its_e_value_are_the_same_test():
    made = running(np.random.default_rng(3).normal(size=3000))
    for edge in interval(made, 0.05):
        assert mean_log_e(made, edge, 0.05) == pytest.approx(math.log(20), abs=1e-9)


def test_a_one_sided_e_value_is_the_half_normal_mixture_and_its_bound_is_no_tighter():
    made = running(np.random.default_rng(4).normal(0.03, 1, 3000))
    eta = tuning(0.1)
    s, t = 3000 * made.mean / made.variance**0.5, 3000
    peak = s / (t + 1 / eta**2)
    area, _ = integrate.quad(
        lambda d: 2 * stats.norm.pdf(d, scale=eta) * math.exp(d * s - d * d * t / 2), 0, 1, points=[peak], epsrel=1e-12
    )
    assert mean_above_log_e(made, 0.0, 0.05) == pytest.approx(math.log(area), abs=1e-9)
    low, high = bounds(made, 0.05)
    assert mean_above_log_e(made, low, 0.05) >= math.log(20)
    assert low > interval(made, 0.05)[0]
    assert high - made.mean == pytest.approx(made.mean - low)


def test_equal_models_compared_by_pairs_are_rarely_called_different_however_often_one_looks():
    rng = np.random.default_rng(5)
    alarms = one_sided = 0
    n_runs = 400
    for _ in range(n_runs):
        values = paired_differences(rng, 10_000)
        parts, wrong, wrong_side = Running(), False, False
        for look in values.reshape(-1, 100):
            parts.add(look)
            low, high = interval(parts, 0.05)
            wrong |= not low <= 0 <= high
            wrong_side |= bounds(parts, 0.05)[1] < 0
        alarms += wrong
        one_sided += wrong_side
    most = int(stats.binom.ppf(0.999, n_runs, 0.05))
    assert alarms <= most
    assert one_sided <= most


def test_pairs_find_a_better_model_in_thousands_of_labels():
    found = bounds(running(paired_differences(np.random.default_rng(6), 20_000, better=0.8)), 0.05)
    assert found[1] < 0


def test_too_few_observations_say_nothing():
    few = running(np.random.default_rng(7).normal(50, 1, 99))
    assert interval(few, 0.05) == bounds(few, 0.05) == (-math.inf, math.inf)
    assert mean_log_e(few, 0.0, 0.05) == mean_above_log_e(few, 0.0, 0.05) == 0
    assert interval(running(np.ones(5000)), 0.05) == (-math.inf, math.inf)


def test_two_arms_as_one_stream_have_the_error_of_their_difference():
    made = contrast((900.0, 4100.0), (1.0, 1.2), (4.0, 5.0))
    assert made.mean == pytest.approx(0.2)
    assert made.variance / made.n == pytest.approx(4 / 900 + 5 / 4100)
    at_margin = contrast((900.0, 4100.0), (1.0, 1.2), (4.0, 5.0), times=0.9)
    assert at_margin.mean == pytest.approx(0.3)
    assert at_margin.variance / at_margin.n == pytest.approx(0.81 * 4 / 900 + 5 / 4100)
    assert contrast((1.0, 4000.0), (1.0, 1.2), (4.0, 5.0)).n == 0
    assert contrast((20.0, 4000.0), (1.0, 1.2), (4.0, 5.0)).n == 0
    with pytest.raises(InvalidInput) as refusal:
        contrast((10.0, 10.0), (1.0, 1.0), (-1.0, 1.0))
    assert refusal.value.code == "bad_look"


def test_a_horizon_of_nothing_is_refused():
    with pytest.raises(InvalidInput) as refusal:
        tuning(0.05, 0)
    assert refusal.value.code == "bad_horizon"
