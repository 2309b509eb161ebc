"""One lesson of the trainer in a process of its own: `python -m tests.bench.lesson ROWS [for-ever | counting]`.

Prints what it took as JSON; with `for-ever` it stands back as the trainer does and learns until it is ended, with
`counting` it stands back and only counts: what standing back costs others by itself, without memory, disk or garbage.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import numpy as np

from actors.priority import Pace, stand_back
from engine.prior import PriorModel
from engine.schema import MODEL_FEATURES, N_FEATURES
from serving.settings_branches import Training
from training.fit import fit_trees, parameters_for, refit_trees
from training.learner import FOR_OFFERS, Champion, Lesson, learn, rows_table
from training.table import Table


def rows(n: int, seed: int = 3) -> Table:
    """Rows in the engine's layout, 15 % of the numbers missing, of which some 12 % convert."""
    rng = np.random.default_rng(seed)
    x = np.empty((n, N_FEATURES))
    at = {name: i for i, name in enumerate(MODEL_FEATURES)}
    for i in range(N_FEATURES):
        # Column by column, so that nothing of the size of the whole is made twice.
        x[:, i] = np.abs(rng.normal(scale=2.0, size=n))
        x[rng.random(n) < 0.15, i] = np.nan
    for name, top in (("device_code", 4), ("os_code", 4), ("network_code", 6), ("offer_code", 5)):
        x[:, at[name]] = rng.integers(0, top, n)
    x[:, at["depth"]] = rng.random(n)
    x[:, at["n_cart_items"]] = rng.integers(0, 3, n)
    z = -3.2 + 1.2 * x[:, at["depth"]] + 0.7 * x[:, at["n_cart_items"]] + 0.3 * (x[:, at["offer_code"]] > 0)
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.float64)
    return rows_table(x, y, np.arange(n, dtype=np.int64) * 100)


def refit_s(n: int = 20_000, n_features: int = 30) -> float:
    """Seconds of one refit of a model as the loop grows them, on `n` new rows."""
    table = rows(n)
    few = Table(
        tuple(f"f{i}" for i in range(n_features)), np.ascontiguousarray(table.x[:, :n_features]), table.y, "", False
    )
    parameters = parameters_for(n, FOR_OFFERS, 0)
    blob = fit_trees(few, parameters).blob
    began = time.monotonic()
    refit_trees(blob, few.x, few.y, 0.5, parameters)
    return time.monotonic() - began


def lesson_s(n: int) -> dict[str, Any]:
    """Seconds of a whole lesson on `n` rows (trial, gates, candidate), and the most memory that was resident.

    The rows are held twice and have keys, as the trainer's window and the columns it reads from it.
    """
    table = rows(n)
    window = table.x.copy(), [f"d_{i % 64}_1_{i}_0" for i in range(n)]
    champion = Champion(PriorModel.version, PriorModel())
    began, cpu = time.monotonic(), time.process_time()
    learned = learn(Lesson(table, champion, "retrain"))
    took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    metrics = learned.candidate.card.metrics
    assert metrics is not None
    assert len(window[1]) == n
    return {"n": n, "took_s": took_s, "cpu_s": cpu_s, "peak_mib": peak_mib, "auc": metrics.auc}


if __name__ == "__main__":
    if "for-ever" in sys.argv:
        table = rows(int(sys.argv[1]))
        stand_back()
        print("begun", flush=True)
        while True:
            pace = Pace(Training().processor_share)
            learn(Lesson(table, Champion(PriorModel.version, PriorModel()), "retrain"), pace.after(lambda share: None))
    elif "counting" in sys.argv:
        stand_back()
        print("begun", flush=True)
        while True:
            pass
    else:
        print(json.dumps(lesson_s(int(sys.argv[1]))))
