"""The score: weighted recency, depth and conversion probability; the priority of micro-segments."""

from __future__ import annotations

from typing import NamedTuple


class Weights(NamedTuple):
    """The campaign's weights for one lifecycle stage; they need not sum to 1."""

    recency: float
    depth: float
    conversion: float


class Score(NamedTuple):
    """The score and what it was made of, each part 0–1."""

    value: float
    recency: float
    depth: float
    conversion: float
    weights: Weights
    stage: str


def recency_score(ms_since_last_signal: int) -> float:
    """max(0, 1 − t/60000), since the latest behavioural signal.

    >>> recency_score(0), recency_score(30_000), recency_score(90_000)
    (1.0, 0.5, 0.0)
    """
    return max(0.0, 1.0 - max(0, ms_since_last_signal) / 60000.0)


def score(recency: float, depth: float, conversion: float, weights: Weights, stage: str) -> Score:
    """w1·recency + w2·depth + w3·conversion."""
    value = weights.recency * recency + weights.depth * depth + weights.conversion * conversion
    return Score(value, recency, depth, conversion, weights, stage)
