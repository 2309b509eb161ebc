"""Policies give exact propensities that sum to 1, and the draw keeps to them."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from engine.policy import NONE, Candidate, draw, epsilon_greedy, greedy, propensities, thompson
from engine.thompson import winning

candidates = st.lists(
    st.builds(
        Candidate,
        offer=st.text("abc", min_size=1, max_size=3),
        worth=st.floats(-5, 5),
        deviation=st.floats(0.001, 5),
        priority=st.integers(0, 3),
    ),
    max_size=8,
).map(lambda found: [Candidate(NONE, 0.0), *found])


@given(candidates, st.sampled_from(["greedy", "epsilon_greedy", "thompson"]), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_propensities_are_probabilities_that_sum_to_one(found: list[Candidate], kind: str, epsilon: float) -> None:
    shares = propensities(kind, found, epsilon)
    assert sum(shares) == pytest.approx(1.0, abs=1e-9)
    assert all(0.0 <= share <= 1.0 + 1e-12 for share in shares)


def test_greedy_prefers_priority_then_worth_but_never_what_is_worth_less_than_nothing() -> None:
    found = [
        Candidate(NONE, 0.0),
        Candidate("a", 2.0),
        Candidate("b", 1.0, priority=1),
        Candidate("c", -1.0, priority=9),
    ]
    assert greedy(found) == [0.0, 0.0, 1.0, 0.0]
    assert greedy([Candidate(NONE, 0.0), Candidate("c", -1.0, priority=9)]) == [1.0, 0.0]


def test_epsilon_is_shared_by_all() -> None:
    assert epsilon_greedy([Candidate(NONE, 0.0), Candidate("a", 1.0)], 0.1) == pytest.approx([0.05, 0.95])


def test_thompson_agrees_with_sampling_the_beliefs() -> None:
    found = [Candidate(NONE, 0.0), Candidate("a", 0.3, 0.5), Candidate("b", 0.2, 0.4), Candidate("c", 0.1, 0.9)]
    dice, n = Random(5), 40_000
    wins = [0] * 4
    for _ in range(n):
        drawn = [0.0] + [dice.gauss(c.worth, c.deviation) for c in found[1:]]
        wins[drawn.index(max(drawn))] += 1
    assert thompson(found) == pytest.approx([w / n for w in wins], abs=0.012)


def test_the_draw_keeps_to_the_propensities() -> None:
    shares, dice, n = [0.2, 0.5, 0.3], Random(3), 30_000
    counts = [0, 0, 0]
    for _ in range(n):
        counts[draw(shares, dice)] += 1
    chi2 = sum((c - n * p) ** 2 / (n * p) for c, p in zip(counts, shares, strict=True))
    assert chi2 < 13.8  # the 0.001 quantile of χ² with 2 degrees of freedom


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(0.02, 2.0)), min_size=1, max_size=6),
    st.sampled_from([-4.0, -0.5, 0.0, 0.7]),
)
@settings(max_examples=60, deadline=None)
@example([(2.0, 1.5), (3.0, 1.5), (3.0, 1.5)], -0.5)  # all of it in one stretch
def test_winning_agrees_with_a_fine_integration(beliefs: list[tuple[float, float]], floor: float) -> None:
    means, deviations = np.array(beliefs).T
    low, high = max(floor, float((means - 9 * deviations).max())), float((means + 9 * deviations).max())
    if high <= low:
        return
    fine = [np.linspace(m - 9 * d, m + 9 * d, 2_001) for m, d in beliefs]
    x = np.unique(np.clip(np.concatenate([np.linspace(low, high, 4_001), *fine]), low, high))
    below = norm.cdf(x[:, None], means, deviations)
    for i, share in enumerate(winning(beliefs, floor)):
        density = norm.pdf(x, *beliefs[i]) * np.delete(below, i, axis=1).prod(axis=1)
        assert share == pytest.approx(float(np.trapezoid(density, x)), abs=5e-4)
