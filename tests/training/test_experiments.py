"""Experiments evaluated: one outcome a visitor, crossovers left out, a broken split is invalid, no p-value anywhere."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from training.evidence import share_interval
from training.example import Example
from training.experiments import Assigned, Experiments

PLAN = {"c.e": ["control", "changed"]}


def example(key: str, label: int, revision: int = 1, value: float = 0.0, **more: Any) -> Example:
    fields = {"offer": None, "propensity": 1.0, "engaged": False, "model": "m", "arm": "champion", "trial": None,
              "matured": True, "degraded": False, "took_us": 0, **more}  # fmt: skip
    return Example(key, revision, "anon:x", 0, "c", row=np.zeros(1), label=label, value=value, **fields)


def seen(n: int, rates: dict[str, float], split: float = 0.5, seed: int = 1, n_exposed: float = 1.0) -> Experiments:
    found, rng = Experiments(), np.random.default_rng(seed)
    for i in range(n):
        variant = "changed" if rng.random() < split else "control"
        key = f"d_{i}"
        found.assign(Assigned(key, "c.e", variant, f"anon:{i}", i, bool(rng.random() < n_exposed)))
        label = int(rng.random() < rates[variant])
        found.learn([example(key, label, value=label * 30.0)])
    return found


def test_a_real_difference_is_told_with_an_interval_that_leaves_0_out() -> None:
    (told,) = seen(4000, {"control": 0.10, "changed": 0.20}).results(PLAN)
    apart = told["variants"][1]["conversion"]["minusControl"]
    assert 0 < apart["lower"] < 0.10 < apart["upper"]
    assert told["verdict"] == "changed converts more than control"
    assert told["variants"][1]["value"]["minusControl"]["lower"] > 0
    assert told["sampleRatio"]["sound"]


def test_a_rate_has_an_interval_from_the_first_visitor_on_also_of_none_and_within_0_and_1() -> None:
    for n, rate in ((12, 0.0), (12, 1.0), (90, 0.3)):
        (told,) = seen(n, {"control": rate, "changed": rate}).results(PLAN)
        for variant in told["variants"]:
            of = variant["conversion"]
            assert 0 <= of["lower"] <= of["mean"] <= of["upper"] <= 1
            assert of["upper"] - of["lower"] < 0.9


def test_an_interval_of_a_rate_holds_at_every_look_as_often_as_promised() -> None:
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(300):
        hits = np.cumsum(rng.random(400) < 0.1)
        looks = ((int(hits[n - 1]), n) for n in range(1, 401, 7))
        wrong += any(not low <= 0.1 <= high for low, high in (share_interval(k, n, 0.05) for k, n in looks))
    assert wrong <= 0.05 * 300


def test_equal_variants_show_no_difference_at_any_look() -> None:
    for n in range(200, 3000, 200):
        (told,) = seen(n, {"control": 0.2, "changed": 0.2}, seed=7).results(PLAN)
        assert told["verdict"] == "no difference is shown yet"


def test_a_split_that_is_not_as_planned_is_invalid_whatever_it_shows() -> None:
    (told,) = seen(3000, {"control": 0.1, "changed": 0.3}, split=0.4).results(PLAN)
    assert not told["sampleRatio"]["sound"]
    assert told["verdict"].startswith("invalid")


def test_few_visitors_give_no_interval_and_everything_is_json() -> None:
    found = seen(20, {"control": 0.5, "changed": 0.5}).results(PLAN)
    assert found[0]["variants"][1]["conversion"]["minusControl"]["lower"] is None
    text = json.dumps(found, allow_nan=False)
    assert "pValue" not in text
    assert "p_value" not in text


def test_only_the_exposed_count_and_only_from_their_first_exposure_on() -> None:
    found = Experiments()
    for key, t_ms, was, label in (("d_1", 1, False, 1), ("d_2", 2, True, 0), ("d_3", 3, False, 0)):
        found.assign(Assigned(key, "c.e", "control", "anon:a", t_ms, was))
        found.learn([example(key, label)])
    found.assign(Assigned("d_4", "c.e", "control", "anon:b", 4, False))
    found.learn([example("d_4", 1)])
    control = found.results(PLAN)[0]["variants"][0]
    assert (control["assigned"], control["exposed"], control["matured"]) == (2, 1, 1)
    assert control["conversion"]["mean"] == 0.0


def test_a_visitor_counts_once_and_a_refund_takes_the_conversion_back() -> None:
    found = Experiments()
    for n in (1, 2):
        found.assign(Assigned(f"d_{n}", "c.e", "control", "anon:a", n, True))
        found.learn([example(f"d_{n}", 1, value=50.0)])
    control = found.results(PLAN)[0]["variants"][0]
    assert (control["matured"], control["conversion"]["mean"], control["value"]["mean"]) == (1, 1.0, 50.0)
    found.learn([example("d_1", 0, revision=2), example("d_2", 0, revision=2), example("d_2", 1, revision=1)])
    assert found.results(PLAN)[0]["variants"][0]["conversion"]["mean"] == 0.0


@pytest.mark.parametrize("more", [{"matured": False}, {"withdrawn": True}])
def test_what_has_not_matured_or_was_withdrawn_does_not_count(more: dict[str, Any]) -> None:
    found = Experiments()
    found.assign(Assigned("d_1", "c.e", "control", "anon:a", 1, True))
    found.learn([example("d_1", 1, **more)])
    assert found.results(PLAN)[0]["variants"][0]["matured"] == 0


def test_who_saw_two_variants_leaves_the_analysis() -> None:
    found = Experiments()
    found.assign(Assigned("d_1", "c.e", "control", "anon:a", 1, True))
    found.assign(Assigned("d_2", "c.e", "changed", "anon:a", 2, True))
    (told,) = found.results(PLAN)
    assert told["crossovers"] == 1
    assert [v["assigned"] for v in told["variants"]] == [0, 0]
