"""Dice from a seed: the published numbers of SplitMix64, even over the unit interval."""

from __future__ import annotations

from engine.dice import SeededDice


def test_the_first_throws_are_those_of_the_published_generator() -> None:
    # Seed 1234567: 6457827717110365317, 3203168211198807973, 9817491932198370423 (Rosetta Code, "Splitmix64").
    dice = SeededDice(1234567)
    expected = (6457827717110365317, 3203168211198807973, 9817491932198370423)
    assert [dice.random() for _ in range(3)] == [(n >> 11) * 2.0**-53 for n in expected]


def test_throws_from_seeds_in_a_row_are_even() -> None:
    counts = [0] * 10
    for seed in range(20_000):
        counts[int(SeededDice(seed).random() * 10)] += 1
    assert sum((n - 2000) ** 2 / 2000 for n in counts) < 27.9  # the 0.001 quantile of χ² with 9 degrees of freedom
