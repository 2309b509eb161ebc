"""No candidate that is broken, inverted or miscalibrated gets past the gates; an equal or better one does."""

import numpy as np
import pytest

from training.gates import Limits, check_probabilities, is_better, judge


def world(n=4_000, seed=31):
    """Outcomes, their true probabilities (10 % convert), and a champion that knows them roughly."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-2.4, 0.9, n)
    truth = 1 / (1 + np.exp(-z))
    champion = 1 / (1 + np.exp(-(z + rng.normal(0, 0.3, n))))
    return (rng.random(n) < truth).astype(float), truth, champion


def failed(judgement):
    return {finding.gate for finding in judgement.findings if not finding.passed}


def test_a_better_candidate_and_the_champion_itself_pass():
    for seed in range(20):
        y, truth, champion = world(seed=seed)
        assert judge(y, champion, champion).passed
        better = judge(y, champion, truth)
        assert better.passed, better.why_not
        assert better.why_not is None


def test_a_single_score_that_is_no_number_refuses():
    y, truth, champion = world()
    for broken in (np.nan, np.inf, -np.inf):
        candidate = truth.copy()
        candidate[17] = broken
        judgement = judge(y, champion, candidate)
        assert failed(judgement) == {"finite"}
        assert "1 of 4000 scores are no numbers" in judgement.why_not


@pytest.mark.parametrize("value", [-0.1, 0.0, 1.0, 1.7])
def test_a_score_that_is_no_probability_refuses(value):
    y, truth, champion = world()
    candidate = truth.copy()
    candidate[3] = value
    assert failed(judge(y, champion, candidate)) == {"range"}
    assert [finding.passed for finding in check_probabilities(candidate)] == [True, False]


def test_an_inverted_candidate_is_always_refused_and_told_so():
    for seed in range(50):
        y, truth, champion = world(400, seed)
        judgement = judge(y, champion, 1 - truth)
        assert "log_loss" in failed(judgement)
        assert "worse than chance" in judgement.why_not


def test_an_inverted_ranking_with_the_right_mean_is_refused_as_well():
    for seed in range(50):
        y, truth, champion = world(2_000, seed)
        flipped = np.empty_like(truth)
        flipped[np.argsort(truth)] = np.sort(truth)[::-1]
        assert failed(judge(y, champion, flipped)) >= {"log_loss"}


@pytest.mark.parametrize("factor", [1.25, 1 / 1.25])
def test_the_champion_miscalibrated_by_a_quarter_is_refused_nineteen_times_in_twenty(factor):
    refused = 0
    for seed in range(200):
        y, truth, _ = world(4_000, seed)
        refused += not judge(y, truth, np.clip(truth * factor, 1e-6, 1 - 1e-6)).passed
    assert refused >= 190


def test_in_a_drift_the_candidate_that_is_less_wrong_passes():
    y, truth, _ = world(4_000)
    assert judge(y, truth * 0.4, truth * 0.8).passed
    assert not judge(y, truth * 0.8, truth * 0.4).passed


def test_after_a_drift_alarm_an_equal_candidate_passes_nearly_always_and_a_worse_one_never():
    passed, passed_before = 0, 0
    for seed in range(200):
        y, truth, champion = world(600, seed)
        noise = np.random.default_rng(seed + 1_000).normal(0, 0.3, len(y))
        equal = 1 / (1 + np.exp(-(np.log(truth / (1 - truth)) + noise)))
        passed += "log_loss" not in failed(judge(y, champion, equal, Limits().after_drift()))
        passed_before += "log_loss" not in failed(judge(y, champion, equal))
        assert "log_loss" in failed(judge(y, champion, 1 - truth, Limits().after_drift()))
    assert passed >= 185
    assert passed_before <= 130


def test_a_candidate_that_says_the_same_of_everybody_is_refused_beside_one_that_does_not():
    y, _, champion = world()
    constant = np.full(len(y), float(y.mean()))
    assert "constant" in failed(judge(y, champion, constant))
    assert judge(y, constant, constant).passed


@pytest.mark.parametrize(("n", "n_positive"), [(40, 20), (500, 4), (500, 0), (500, 497), (0, 0)])
def test_too_few_rows_or_outcomes_judge_nobody(n, n_positive):
    y, p = np.zeros(n), np.linspace(0.1, 0.2, n)
    y[:n_positive] = 1
    assert failed(judge(y, p, p)) == {"rows"}


def test_better_beyond_chance_is_seldom_said_of_equals_and_always_of_the_much_better():
    said = 0
    for seed in range(200):
        y, truth, _ = world(500, seed)
        noise = np.random.default_rng(seed + 1_000).normal(0, 0.3, (2, 500))
        one, two = (1 / (1 + np.exp(-(np.log(truth / (1 - truth)) + part))) for part in noise)
        said += is_better(y, one, two)
        assert is_better(y, 1 - truth, truth)
    assert said <= 20  # ten expected
