"""Evidence on counts keeps its promise however often one looks, and finds what is there."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from engine.errors import InvalidInput
from training.evidence import (
    LIFTS,
    CalibrationEvidence,
    challenger_share,
    log_beta_cdf,
    ratio_interval,
    ratio_log_e,
    srm_log_e,
    threshold,
)

N_RUNS, N_EVENTS = 2000, 3000
"""5 % of 60,000 users convert; a look at every fifth conversion."""


def most_alarms(alpha: float, runs: int = N_RUNS) -> int:
    """More alarms than this would come once in a thousand times, were the true rate α."""
    return int(stats.binom.ppf(0.999, runs, alpha))


def challengers_events(rng: np.random.Generator, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """Totals (runs, looks) of the challenger's events, and (looks,) of all."""
    k = np.cumsum(rng.random((N_RUNS, N_EVENTS), dtype=np.float32) < theta, axis=1, dtype=np.int32)
    return k[:, 4::5], np.arange(5, N_EVENTS + 1, 5)


def by_quadrature(k: float, n: float, share: float, ratio: float, side: str) -> float:
    """The mixture by numerical integration of likelihood ratios, straight from its definition."""
    theta = share * ratio / (1 - share + share * ratio)
    prior = stats.beta(100 * share, 100 * (1 - share))
    low, high = {"different": (0, 1), "below": (0, theta), "above": (theta, 1)}[side]

    def log_weight(t: float) -> float:
        return prior.logpdf(t) + k * math.log(t / theta) + (n - k) * math.log((1 - t) / (1 - theta))

    grid = np.linspace(low, high, 2001)[1:-1]
    top = max(log_weight(t) for t in grid[::20])
    near = grid[[log_weight(t) > top - 60 for t in grid]]
    cuts = np.linspace(max(low, near[0] - 2e-3), min(high, near[-1] + 2e-3), 9)
    area = sum(
        integrate.quad(lambda t: math.exp(log_weight(t) - top) if 0 < t < 1 else 0.0, *cut, epsabs=0, epsrel=1e-12)[0]
        for cut in pairwise(cuts)
    )
    return top + math.log(area) - math.log(prior.cdf(high) - prior.cdf(low))


@pytest.mark.parametrize("side", ["different", "below", "above"])
@pytest.mark.parametrize(
    ("k", "n", "share", "ratio"),
    [(0, 0, 0.5, 1.0), (40, 100, 0.5, 1.0), (300, 1000, 0.5, 0.9), (700, 1000, 0.5, 0.9), (5, 400, 0.05, 0.9),
     (600, 4000, 0.2, 1.1)],
)  # fmt: skip
def test_the_closed_form_is_the_mixture_of_likelihood_ratios(k, n, share, ratio, side):
    found = float(ratio_log_e(k, n, share, ratio, side))
    assert found == pytest.approx(by_quadrature(k, n, share, ratio, side), rel=1e-9, abs=1e-9)


def test_equal_arms_looked_at_at_every_turn_are_rarely_called_different_and_hardly_ever_rolled_back():
    k, n = challengers_events(np.random.default_rng(1), 0.5)
    high = threshold(0.05)
    assert (ratio_log_e(k, n, 0.5) >= high).any(axis=1).sum() <= most_alarms(0.05)
    rolled_back = (ratio_log_e(k, n, 0.5, 0.9, "below") >= high).any(axis=1).mean()
    assert rolled_back <= 0.01
    promoted = (ratio_log_e(k, n, 0.5, 0.9, "above") >= high).any(axis=1).mean()
    assert promoted > 0.6


def test_at_the_boundary_itself_neither_side_errs_more_often_than_agreed():
    theta = float(challenger_share(0.5, 0.9))
    k, n = challengers_events(np.random.default_rng(2), theta)
    for side in ("below", "above"):
        alarms = (ratio_log_e(k, n, 0.5, 0.9, side) >= threshold(0.05)).any(axis=1).sum()
        assert 0 < alarms <= most_alarms(0.05)


def test_a_challenger_that_converts_a_third_less_is_always_caught():
    k, n = challengers_events(np.random.default_rng(3), float(challenger_share(0.5, 0.7)))
    caught = ratio_log_e(k, n, 0.5, 0.9, "below") >= threshold(0.05)
    assert caught.any(axis=1).mean() > 0.99
    users = (caught.argmax(axis=1) + 1) * 5 / (0.05 * (0.5 + 0.5 * 0.7))
    assert 5_000 < np.median(users[caught.any(axis=1)]) < 15_000


def test_a_small_share_of_the_traffic_keeps_the_promise_too():
    k, n = challengers_events(np.random.default_rng(4), 0.01)
    assert (ratio_log_e(k, n, 0.01) >= threshold(0.05)).any(axis=1).sum() <= most_alarms(0.05)


def test_an_e_value_is_one_on_average_at_any_fixed_time():
    k = np.arange(0, 61)
    for share, ratio, side in ((0.5, 1.0, "different"), (0.3, 0.9, "below"), (0.3, 0.9, "above")):
        chance = stats.binom.pmf(k, 60, float(challenger_share(share, ratio)))
        mean = float((chance * np.exp(ratio_log_e(k, 60, share, ratio, side))).sum())
        assert mean == pytest.approx(1, abs=1e-9)


@given(st.integers(0, 3000), st.integers(0, 3000), st.sampled_from([0.05, 0.5, 0.8]), st.floats(0.5, 2.0))
@settings(max_examples=60, deadline=None)
def test_the_two_sides_weighed_by_their_prior_make_the_whole(mine, others, share, ratio):
    n, theta = mine + others, float(challenger_share(share, ratio))
    below = float(log_beta_cdf(theta, 100 * share, 100 * (1 - share)))
    above = float(log_beta_cdf(1 - theta, 100 * (1 - share), 100 * share))
    sides = np.logaddexp(
        below + ratio_log_e(mine, n, share, ratio, "below"), above + ratio_log_e(mine, n, share, ratio, "above")
    )
    assert float(sides) == pytest.approx(float(ratio_log_e(mine, n, share, ratio)), rel=1e-9, abs=1e-8)


def test_the_beta_tail_goes_on_where_floating_point_ends():
    for a, b in ((5000.0, 3000.0), (90_000.0, 90_000.0)):
        x = 0.3
        # ∫ t^(a−1)(1−t)^(b−1): all of the mass lies next to x, in steps of a·u = x − t.
        nodes, at = np.polynomial.laguerre.laggauss(60)
        slope = (a - 1) / x - (b - 1) / (1 - x)
        t = x - nodes / slope
        log_f = (a - 1) * np.log(t / x) + (b - 1) * np.log((1 - t) / (1 - x))
        area = math.log(float((at * np.exp(log_f + nodes)).sum()) / slope)
        expected = area + stats.beta(a, b).logpdf(x)
        assert expected < -1000
        assert float(log_beta_cdf(x, a, b)) == pytest.approx(expected, rel=1e-9)


def test_the_interval_of_the_ratio_holds_exactly_what_the_test_does_not_refuse():
    low, high = ratio_interval(300, 700, 0.4, 0.05)
    assert low < (300 / 400) * (0.6 / 0.4) < high
    for edge in (low, high):
        theta = edge * 0.4 / (0.6 + edge * 0.4)
        a, b = 40.0, 60.0
        from scipy.special import betaln

        log_e = betaln(a + 300, b + 400) - betaln(a, b) - 300 * math.log(theta) - 400 * math.log(1 - theta)
        assert log_e == pytest.approx(threshold(0.05), abs=1e-9)
    assert ratio_interval(0, 0, 0.5, 0.05) == (0, math.inf)
    assert ratio_interval(0, 500, 0.5, 0.05)[0] == 0
    assert ratio_interval(500, 500, 0.5, 0.05)[1] == math.inf


def test_the_sample_ratio_test_of_two_arms_is_the_point_test_of_the_events():
    assert float(srm_log_e((4700, 5300), (0.5, 0.5))) == pytest.approx(float(ratio_log_e(5300, 10_000, 0.5)), abs=1e-9)
    assert float(srm_log_e((880, 120), (0.9, 0.1))) == pytest.approx(float(ratio_log_e(120, 1000, 0.1)), abs=1e-9)


def test_a_right_split_is_hardly_ever_called_wrong_and_a_wrong_one_is_found():
    rng = np.random.default_rng(5)
    shares = (0.5, 0.3, 0.2)
    right = np.cumsum(rng.multinomial(50, shares, size=(N_RUNS, 200)), axis=1)
    assert (srm_log_e(right, shares) >= threshold(0.001)).any(axis=1).sum() <= most_alarms(0.001)
    wrong = np.cumsum(rng.multinomial(50, (0.5, 0.34, 0.16), size=(50, 200)), axis=1)
    assert (srm_log_e(wrong, shares) >= threshold(0.001)).any(axis=1).all()


def test_calibration_evidence_is_the_mean_over_its_tilts():
    rng = np.random.default_rng(6)
    p, y = rng.random(40), (rng.random(40) < 0.4).astype(float)
    evidence = CalibrationEvidence()
    evidence.add(p[:13], y[:13])
    evidence = CalibrationEvidence(evidence.snapshot())
    for one, came in zip(p[13:], y[13:], strict=True):
        evidence.add(one, came)
    naive = 0.0
    for lift in (*LIFTS, *(1 / lift for lift in LIFTS)):
        product = 1.0
        for one, came in zip(p, y, strict=True):
            product *= lift**came / (1 - one + one * lift)
        naive += product / 8
    assert evidence.log_e() == pytest.approx(math.log(naive), abs=1e-9)


def test_a_calibrated_model_passes_and_one_a_quarter_too_low_is_found():
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(300):
        p = rng.beta(1, 12, 40_00)
        evidence = CalibrationEvidence()
        y = (rng.random(len(p)) < p).astype(float)
        ever = False
        for start in range(0, len(p), 100):
            evidence.add(p[start : start + 100], y[start : start + 100])
            ever = ever or evidence.log_e() >= threshold(0.05)
        alarms += ever
    assert alarms <= most_alarms(0.05, 300)
    p = rng.beta(1, 12, 20_000)
    low = CalibrationEvidence()
    low.add(p / 1.25, (rng.random(len(p)) < p).astype(float))
    assert low.log_e() >= threshold(0.001)
    assert low.direction() == "low"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: ratio_log_e(5, 3, 0.5), "bad_counts"),
        (lambda: ratio_log_e(1, 3, 1.0), "bad_share"),
        (lambda: ratio_log_e(1, 3, 0.5, 0.0), "bad_ratio"),
        (lambda: ratio_log_e(math.nan, 3, 0.5), "bad_counts"),
        (lambda: srm_log_e((5,), (1.0,)), "one_arm"),
        (lambda: srm_log_e((5, 5), (0.5, 0.6)), "bad_shares"),
        (lambda: srm_log_e((5, -5), (0.5, 0.5)), "bad_counts"),
        (lambda: threshold(0.0), "bad_alpha"),
        (lambda: CalibrationEvidence().add(math.nan, 1), "bad_probability"),
        (lambda: CalibrationEvidence().add(0.5, 0.5), "bad_outcome"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_code(call, code):
    with pytest.raises(InvalidInput) as refusal:
        call()
    assert refusal.value.code == code
