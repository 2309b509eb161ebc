"""Policies: how likely each candidate is to be shown, exactly, and the draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from engine.thompson import winning

NONE: Final = ""
"""The candidate that shows no offer; always eligible, worth exactly 0."""


class Dice(Protocol):
    """What a policy draws from: `random.Random` fits."""

    def random(self) -> float: ...


class Candidate(NamedTuple):
    """An eligible offer, or none: its expected net worth, the standard deviation of that belief, its priority."""

    offer: str
    worth: float
    deviation: float = 0.0
    priority: int = 0


def greedy(candidates: Sequence[Candidate]) -> list[float]:
    """All on the best: highest priority, then worth; the first of equals.

    A candidate worth less than showing nothing never wins on priority.
    """
    best = max(range(len(candidates)), key=lambda i: (_rank(candidates[i]), -i))
    return [1.0 if i == best else 0.0 for i in range(len(candidates))]


def _rank(candidate: Candidate) -> tuple[int, int, float]:
    if candidate.offer == NONE:
        return (1, 0, 0.0)
    if candidate.worth <= 0.0:
        return (0, candidate.priority, candidate.worth)
    return (2, candidate.priority, candidate.worth)


def epsilon_greedy(candidates: Sequence[Candidate], epsilon: float) -> list[float]:
    """Greedy with probability 1 − ε, else uniform over all candidates."""
    share = epsilon / len(candidates)
    return [share + (1.0 - epsilon) * p for p in greedy(candidates)]


def thompson(candidates: Sequence[Candidate]) -> list[float]:
    """The probability of each being worth most under independent normal beliefs; they sum to 1.

    Candidates without deviation are points. The draw uses these probabilities, so what is logged is what was done.
    """
    floor = max((c.worth for c in candidates if c.deviation <= 0.0), default=-math.inf)
    won = iter(winning([(c.worth, c.deviation) for c in candidates if c.deviation > 0.0], floor))
    shares = [next(won) if c.deviation > 0.0 else 0.0 for c in candidates]
    # Of the points only the best can win; equals share.
    left = max(0.0, 1.0 - sum(shares))
    best = [i for i, c in enumerate(candidates) if c.deviation <= 0.0 and c.worth == floor]
    for i in best:
        shares[i] = left / len(best)
    total = sum(shares)
    return [s / total for s in shares]


def propensities(kind: str, candidates: Sequence[Candidate], epsilon: float) -> list[float]:
    """The exact probability of each candidate under the policy named; they sum to 1."""
    if kind == "thompson":
        return thompson(candidates)
    if kind == "epsilon_greedy":
        return epsilon_greedy(candidates, epsilon)
    return greedy(candidates)


def draw(shares: Sequence[float], dice: Dice) -> int:
    """The index drawn with the given probabilities."""
    u = dice.random()
    for index, share in enumerate(shares):
        u -= share
        if u < 0.0:
            return index
    return max(range(len(shares)), key=lambda i: shares[i])
