"""Who churned is known when the horizon is over, not before, and from visits, not from single rows."""

from __future__ import annotations

import numpy as np

from engine.prior import churn_prior
from engine.schema import MODEL_FEATURES
from training.churn import ChurnPrior, churn_table
from training.learner import Champion, Lesson, learn

DAY, MINUTE = 86_400_000, 60_000
SESSIONS, OFFER = MODEL_FEATURES.index("n_sessions"), MODEL_FEATURES.index("offer_code")


def labels(visits: list[tuple[int, int]], now_ms: int, horizon_ms: int = 14 * DAY) -> dict[int, float]:
    """The label of each row (by its place in `visits`) that stands for a mature visit."""
    x = np.zeros((len(visits), len(MODEL_FEATURES)))
    x[:, SESSIONS], x[:, OFFER] = np.arange(len(visits)), 7.0
    track, t_ms = (np.array(column, dtype=np.int64) for column in zip(*visits, strict=True))
    table = churn_table(x, t_ms, track, horizon_ms, now_ms)
    assert (table.x[:, OFFER] == 0).all()
    return {int(row[SESSIONS]): float(label) for row, label in zip(table.x, table.y, strict=True)}


def test_who_does_not_return_within_the_horizon_has_churned():
    visits = [(1, 0), (2, 0), (2, 3 * DAY), (3, 0), (3, 15 * DAY)]
    assert labels(visits, now_ms=40 * DAY) == {0: 1.0, 1: 0.0, 2: 1.0, 3: 1.0, 4: 1.0}


def test_a_visit_whose_horizon_is_not_over_says_nothing_even_if_a_return_is_known():
    assert labels([(1, 0), (2, 0), (2, DAY)], now_ms=14 * DAY) == {0: 1.0, 1: 0.0}
    assert labels([(1, 1), (2, 1), (2, DAY)], now_ms=14 * DAY) == {}


def test_the_rows_of_one_visit_count_once_as_its_last_one():
    visits = [(1, 0), (1, 10 * MINUTE), (1, 39 * MINUTE), (1, 2 * DAY)]
    assert labels(visits, now_ms=30 * DAY) == {2: 0.0, 3: 1.0}


def test_the_order_of_arrival_does_not_matter():
    visits = [(1, 0), (2, 0), (2, 3 * DAY), (1, 10 * MINUTE)]
    there = labels(visits, 40 * DAY)
    turned = labels(visits[::-1], 40 * DAY)
    assert there == {3 - row: label for row, label in turned.items()}


def test_churn_is_learned_like_conversion_and_beats_the_prior():
    rng = np.random.default_rng(2)
    n = 3_000
    x = np.zeros((n, len(MODEL_FEATURES)))
    x[:, SESSIONS] = rng.integers(1, 8, n)
    returns = rng.random(n) < 0.1 + 0.1 * x[:, SESSIONS]
    t_ms = np.sort(rng.integers(0, 20 * DAY, n))
    back = np.flatnonzero(returns)
    table = churn_table(
        np.concatenate([x, x[back]]), np.concatenate([t_ms, t_ms[back] + DAY]),
        np.concatenate([np.arange(n), back]), 14 * DAY, 22 * DAY,
    )  # fmt: skip
    prior = ChurnPrior()
    assert prior.predict_many(table.x)[0] == churn_prior(*(table.x[0, MODEL_FEATURES.index(name)] for name in
                                                           ("gap_days", "n_sessions", "n_purchases")))  # fmt: skip
    champion = Champion(prior.version, prior)
    learned = learn(Lesson(table, champion, "retrain", target="churn", params={"n_rounds": 20}))
    assert all(finding.passed for finding in learned.findings), learned.findings
    assert learned.candidate.card.target == "churn"
    assert learned.candidate.predictor().predict_one(table.x[0]) > 0
