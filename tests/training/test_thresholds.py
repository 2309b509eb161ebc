"""Thresholds from outcomes: the curve is exact, the proposal reaches its target, the drawing shows it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.errors import InvalidInput
from training.thresholds import curve, draw, propose, standing


def sessions(n: int = 400, seed: int = 2) -> tuple[list[float], list[bool]]:
    rng = np.random.default_rng(seed)
    x = rng.random(n)
    return x.tolist(), (rng.random(n) < x**2).tolist()


def test_every_point_is_what_its_threshold_would_find() -> None:
    x, y = sessions()
    for point in curve(x, y):
        inside = [right for score, right in zip(x, y, strict=True) if score > point.value]
        assert point.n == len(inside)
        assert point.precision == pytest.approx(sum(inside) / len(inside))
        assert point.recall == pytest.approx(sum(inside) / sum(y))
        assert 0 <= point.lower <= point.precision


def test_the_proposal_reaches_the_precision_with_the_most_recall() -> None:
    points = curve(*sessions())
    found = propose(points, 0.7)
    assert found is not None
    assert found.precision >= 0.7
    assert all(p.recall <= found.recall for p in points if p.precision >= 0.7)


def test_a_precision_that_no_threshold_reaches_gives_no_proposal() -> None:
    x, y = sessions()
    assert propose(curve(x, [n % 2 == 0 for n in range(len(x))]), 0.99) is None or max(y)
    assert propose([], 0.5) is None


def test_the_standing_of_a_threshold_between_two_scores_is_that_of_the_stricter_point() -> None:
    points = curve([float(n) for n in range(60)], [n > 30 for n in range(60)])
    now = standing(points, 49.7)
    assert now is not None
    assert now.n == 10 or now.value >= 49.7


def test_sessions_that_the_rest_of_the_condition_decides_count_as_such() -> None:
    x = [math.inf] * 20 + [-math.inf] * 20 + [float(n) for n in range(40)]
    y = [True] * 20 + [True] * 20 + [n >= 20 for n in range(40)]
    points = curve(x, y)
    assert points[0].n == 20
    assert points[-1].n == 60
    assert points[-1].recall == pytest.approx(40 / 60)


@pytest.mark.parametrize(
    ("x", "y", "code"), [([1.0] * 9, [True] * 9, "too_few_sessions"), ([1.0] * 60, [True] * 60, "one_outcome")]
)
def test_what_cannot_be_told_is_refused(x: list[float], y: list[bool], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        curve(x, y)
    assert caught.value.code == code


def test_the_drawing_shows_the_curve_and_the_target() -> None:
    lines = draw(curve(*sessions()), 0.8)
    assert any("●" in line for line in lines)
    assert sum("┄" in line for line in lines) == 1
    assert "recall" in lines[-1]
    assert len({len(line) for line in lines[1:-2]}) == 1
