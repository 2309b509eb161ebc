"""What leaks, answers slowly or would earn less is refused; what the log cannot say is not guessed."""

from __future__ import annotations

import copy
from functools import cache
from random import Random

import numpy as np
import orjson

from engine.book import compile_book, load_book
from engine.decide import decide
from engine.inputs import Request, read_inputs
from engine.record import ENGINE_VERSION, Record, Versions, decision_record
from engine.schema import MODEL_FEATURES, offer_code, schema_hash
from engine.track import Track
from engine.world import World
from tests.engine.builders import T0
from tests.engine.test_decide import BOOK
from training.admission import check_latency, check_leaks, check_schema, check_value
from training.fit import parameters_for
from training.learner import rows_table
from training.retake import Retaken, retake

OFFER = MODEL_FEATURES.index("offer_code")
TRUTH = {0: 0.10, offer_code("apple"): 0.25, offer_code("dear"): 0.10}


class Believes:
    """A model that gives each offer one probability, whoever the visitor is."""

    kind = "lightgbm"

    def __init__(self, version: str, by_offer: dict[int, float]) -> None:
        self.version, self.by_offer, self.schema_hash = version, by_offer, schema_hash()

    def predict_one(self, row):
        return self.by_offer.get(int(row[OFFER]), 0.1)

    def predict_many(self, rows):
        return np.array([self.predict_one(row) for row in rows])


PARAMETERS = parameters_for(4_000, {"n_rounds": 40}, 0)
RIGHT = Believes("right", TRUTH)
WRONG = Believes("wrong", {**TRUTH, offer_code("apple"): 0.05})


def world(model: Believes, kind: str = "epsilon_greedy") -> World:
    data = copy.deepcopy(BOOK)
    campaign = data["campaigns"]["main"]
    campaign["policy"] = {"kind": kind, **({"epsilon": 0.6} if kind == "epsilon_greedy" else {})}
    campaign["offers"]["dear"].update(value=30, cost=0)
    return World(compile_book(load_book(data), "b1"), model)


def logged(by: World, n: int) -> list[tuple[Record, float]]:
    """Recorded decisions with outcomes drawn by what is true of the offer that was drawn."""
    dice, found = Random(5), []
    for i in range(n):
        track = Track.fresh(f"anon:{i}")
        context = {"device": "mobile", "os": "ios", "network": "4g", "bot": False}
        inputs = read_inputs(track, Request("page", limit=1), context, {}, T0 + i)
        decision = decide(inputs, by, now_ms=T0 + i, rng=Random(i))
        versions = Versions(ENGINE_VERSION, "b1", by.model_version, schema_hash())
        row = orjson.loads(orjson.dumps(decision_record(T0 + i, i, "model", versions, None, inputs, decision)))
        drawn = decision.slots[0].drawn
        found.append((row, float(dice.random() < TRUTH[offer_code(drawn or None)])))
    return found


@cache
def log(n: int = 2_400) -> list[tuple[Record, float]]:
    return logged(world(RIGHT), n)


def taken(other: Believes, n: int = 2_400) -> Retaken:
    return retake([(record, world(other), label) for record, label in log()[:n]])


def test_taken_again_with_the_same_model_every_choice_is_as_likely_as_it_was():
    same = taken(RIGHT, 500)
    np.testing.assert_allclose(same.target, same.propensity, atol=1e-12)
    assert len(same.reward) == 500


def test_a_candidate_that_would_earn_less_for_certain_is_refused_with_its_numbers():
    same, worse = check_value(taken(RIGHT)), check_value(taken(WRONG))
    assert (same.passed, same.undecided) == (True, False)
    assert abs(same.value) < 0.05
    assert not worse.passed, worse.sentence
    assert worse.figures["gain_upper"] < 0
    assert abs(worse.figures["mean_weight"] - 1) < 0.1
    assert worse.figures["effective"] >= worse.figures["effective_needed"]


def test_too_few_effective_rows_are_undecided_and_refuse_nobody():
    found = check_value(taken(WRONG, 400))
    assert (found.passed, found.undecided) == (True, True)
    assert "effective sample size" in found.sentence
    assert found.told()["verdict"] == "undecided"
    assert check_value(taken(WRONG, 0)).undecided


def test_a_log_without_exploration_cannot_value_another_choice():
    greedy = logged(world(RIGHT, "greedy"), 700)
    found = check_value(retake([(record, world(WRONG, "greedy"), label) for record, label in greedy]))
    assert found.undecided
    assert "not consistent with 1" in found.sentence


def test_decisions_without_a_choice_or_of_another_schema_are_left_out():
    (record, label), *_ = log()
    other = [*record]
    other[5] = [*record[5][:3], "another schema"]
    holdout = copy.deepcopy(record)
    holdout[8][2] = []
    assert len(retake([(other, world(RIGHT), label), (holdout, world(RIGHT), label)]).reward) == 0


def test_an_honest_strong_feature_is_no_leak_and_one_that_ranks_perfectly_is():
    rng = np.random.default_rng(1)
    x = np.full((4_000, len(MODEL_FEATURES)), np.nan)
    step = rng.integers(0, 4, 4_000)
    y = (rng.random(4_000) < np.array([0.01, 0.1, 0.4, 0.7])[step]).astype(float)
    x[:, MODEL_FEATURES.index("checkout_step")] = step
    honest = check_leaks(rows_table(x, y, np.arange(4_000)), PARAMETERS)
    assert honest.passed
    assert honest.value > 0.75
    x[:, MODEL_FEATURES.index("hover_s")] = y + rng.normal(0, 0.25, 4_000)
    leaking = check_leaks(rows_table(x, y, np.arange(4_000)), PARAMETERS)
    assert not leaking.passed
    assert "'hover_s'" in leaking.sentence


def test_a_value_with_which_all_rows_convert_is_a_leak_only_beyond_what_the_other_columns_say():
    rng = np.random.default_rng(2)
    x = np.full((4_000, len(MODEL_FEATURES)), np.nan)
    step, sold = rng.integers(0, 4, 4_000), MODEL_FEATURES.index("n_purchases")
    y = (rng.random(4_000) < np.array([0.01, 0.1, 0.4, 0.97])[step]).astype(float)
    x[:, MODEL_FEATURES.index("checkout_step")] = step
    # Those who are nearly through, and all of whom have bought: with this column and without it the same is expected.
    x[:, sold] = 0.0
    x[np.flatnonzero((step == 3) & (y > 0))[:60], sold] = 1.0
    assert check_leaks(rows_table(x, y, np.arange(4_000)), PARAMETERS).passed
    # The same value among those of whom a tenth buys cannot be had before.
    x[:, sold] = 0.0
    x[np.flatnonzero((step == 1) & (y > 0))[:60], sold] = 1.0
    found = check_leaks(rows_table(x, y, np.arange(4_000)), PARAMETERS)
    assert not found.passed
    assert "'n_purchases'" in found.sentence


def test_the_many_rows_of_one_visitor_are_one_outcome():
    rng = np.random.default_rng(3)
    x = np.full((4_000, len(MODEL_FEATURES)), np.nan)
    y = (rng.random(4_000) < 0.2).astype(float)
    visitors, spot = np.arange(4_000), MODEL_FEATURES.index("past_time_s")
    x[:, spot] = rng.random(4_000)
    busy = slice(1_000, 1_400)
    x[busy, spot], y[busy], visitors[busy] = 12.5, 1.0, 7
    assert not check_leaks(rows_table(x, y, np.arange(4_000)), PARAMETERS).passed
    assert check_leaks(rows_table(x, y, np.arange(4_000), visitors=visitors), PARAMETERS).passed


def test_a_column_that_tells_visitors_apart_is_not_taken_for_one_that_ranks_outcomes():
    rng = np.random.default_rng(4)
    visitors = np.repeat(np.arange(50), 80)
    x = np.full((4_000, len(MODEL_FEATURES)), np.nan)
    x[:, MODEL_FEATURES.index("past_time_s")] = rng.random(50)[visitors]
    y = (rng.random(50) < 0.3).astype(float)[visitors]
    assert check_leaks(rows_table(x, y, np.arange(4_000)), PARAMETERS).value > 0.85
    assert check_leaks(rows_table(x, y, np.arange(4_000), visitors=visitors), PARAMETERS).value < 0.75


def test_a_model_half_as_slow_again_is_refused_and_an_equal_one_is_not():
    ticks = {"now": 0}

    class Takes:
        def __init__(self, ns: int) -> None:
            self.ns = ns

        def predict_one(self, row) -> float:
            ticks["now"] += self.ns
            return 0.1

    rows = np.zeros((80, 3))
    clock = lambda: ticks["now"]  # noqa: E731
    slow, equal = (check_latency(Takes(4_000), Takes(ns), rows, clock) for ns in (6_000, 4_000))
    assert (slow.passed, slow.value) == (False, 1.5)
    assert (equal.passed, equal.value) == (True, 1.0)
    first = check_latency(None, Takes(500_000), rows, clock)
    assert (first.passed, first.value) == (False, 500.0)
    assert check_latency(None, Takes(1), rows[:0], clock).undecided


def test_a_model_of_another_layout_is_refused():
    assert check_schema(schema_hash()).passed
    assert not check_schema("0000000000000000").passed
