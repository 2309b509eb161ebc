"""One row through the model as a shard asks it: `LightGbmPredictor.predict_one`, each call timed by itself."""

from __future__ import annotations

import statistics
import time

import numpy as np

from engine.schema import N_FEATURES
from tests.bench import shop
from tests.bench.rows import Row, at_most, measured
from training.fit import Model, fit
from training.learner import FOR_OFFERS

N_CALLS = 50_000
N_ROUNDS = 5


def rows() -> list[Row]:
    """Medians over rounds; the clock's own cost is inside. Of the reference model and of one that the loop grows."""
    loops = fit(shop.table(), FOR_OFFERS, seed=5)
    return [*_of(shop.model(), "score of one row in the shard"), *_of(loops, "the same, 300 small trees of the loop")]


def _of(model: Model, name: str) -> list[Row]:
    predictor = model.predictor()
    rng = np.random.default_rng(3)
    table = np.abs(rng.normal(scale=2.0, size=(256, N_FEATURES)))
    table[rng.random(table.shape) < 0.15] = np.nan
    prepared = list(table)
    p50, p99 = [], []
    for _ in range(N_ROUNDS):
        took = _round(predictor.predict_one, prepared)
        p50.append(took[N_CALLS // 2] / 1000)
        p99.append(took[N_CALLS * 99 // 100] / 1000)
    return [
        measured(f"{name}: p50", statistics.median(p50), "µs"),
        at_most(f"{name}: p99", statistics.median(p99), "µs", 5),
    ]


def _round(predict_one: object, prepared: list[np.ndarray]) -> list[int]:
    assert callable(predict_one)
    clock, took = time.perf_counter_ns, [0] * N_CALLS
    for i in range(N_CALLS):
        row = prepared[i & 255]
        began = clock()
        predict_one(row)
        took[i] = clock() - began
    return sorted(took)
