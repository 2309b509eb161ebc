"""Builders for tests of rollouts: short plans, and examples as a canary gives them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from training.example import Example
from training.rollout_plan import Plan, Stage

ROW = np.zeros(1)
SHORT = Plan(stages=(Stage(0.0, 10, 1000, 50), Stage(0.1, 10, 1000, 50), Stage(0.5, 10, 2000, 100)))
"""Ten seconds a stage; a user a second in the tests' streams."""


def example(
    track: str, *, rollout: str = "r1", stage: str = "shadow", arm: str = "champion", label: int = 0,
    p: tuple[float | None, float | None] = (0.1, 0.1), key: str | None = None, revision: int = 1,
    engaged: bool = False, matured: bool = True, degraded: bool = False, took_us: int = 1000, withdrawn: bool = False,
) -> Example:  # fmt: skip
    return Example(
        key or f"d_{track}", revision, track, 0, "cart", None, 1.0, ROW, label, 10.0 * label, engaged, "m1", arm,
        (rollout, stage, arm, *p), matured, degraded, took_us, withdrawn=withdrawn,
    )  # fmt: skip


def crowd(
    n: int, *, seed: int = 0, stage: str = "shadow", share: float = 0.0, rate: float = 0.2, times: float = 1.0,
    scale: float = 1.0, slower: float = 1.0, rollout: str = "r1", who: str = "u", engaged: float = 0.3,
    bad_scores: float = 0.0, noise: float = 0.2, blind: bool = False,
) -> Iterator[Example]:  # fmt: skip
    """Users one after another: `times` their conversion and `slower` their answers in the challenger's arm."""
    dice = np.random.default_rng(seed)
    for i in range(n):
        arm = "challenger" if dice.random() < share else "champion"
        truth = rate * float(np.exp(0.5 * dice.standard_normal()))
        mine = arm == "challenger"
        told = [min(0.99, truth * float(np.exp(noise * dice.standard_normal()))) for _ in range(2)]
        mean = rate * float(np.exp(0.125))
        challenger = None if dice.random() < bad_scores else mean if blind else min(0.99, told[1] * scale)
        took = 1000 * float(np.exp(0.5 * dice.standard_normal())) * (slower if mine else 1.0)
        yield example(
            f"{who}{i}", rollout=rollout, stage=stage, arm=arm, p=(told[0], challenger),
            label=int(dice.random() < min(1.0, truth) * (times if mine else 1.0)), took_us=int(took),
            engaged=bool(dice.random() < engaged),
        )  # fmt: skip
