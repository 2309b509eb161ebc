"""A lesson gives a candidate, judged on rows its trial had not seen, and the same bytes every time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from engine.errors import InvalidInput
from engine.prior import PriorModel
from engine.schema import MODEL_FEATURES
from training.fit import Model
from training.learner import Champion, Learned, Lesson, learn, reproduce, rows_table
from training.table import Table

FEW = {"n_rounds": 25}
DAY = 86_400_000


def rows(n: int = 3_000, seed: int = 3, turned: bool = False, start_ms: int = 0) -> Table:
    """Matured rows, one a second: depth and cart convert; `turned` is a world in which they do the opposite."""
    rng = np.random.default_rng(seed)
    x = np.full((n, len(MODEL_FEATURES)), np.nan)
    depth, cart = rng.random(n), rng.integers(0, 3, n).astype(float)
    for name, values in (("depth", depth), ("n_cart_items", cart), ("offer_code", 0.0), ("device_code", 1.0)):
        x[:, MODEL_FEATURES.index(name)] = values
    z = -2.5 + (-1 if turned else 1) * (1.6 * depth + 0.9 * cart) + (2.6 if turned else 0)
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.float64)
    return rows_table(x, y, start_ms + 1_000 * np.arange(n))


def prior() -> Champion:
    return Champion("prior-1", PriorModel())


def champion_of(model: Model) -> Champion:
    return Champion(model.card.version, model.predictor(), model)


@cache
def first() -> Learned:
    return learn(Lesson(rows(), prior(), "retrain", params=FEW, seed=4))


def findings(learned: Learned) -> dict[str, bool]:
    return {finding.gate: finding.passed for finding in learned.findings}


def test_a_first_model_is_better_than_the_prior_and_passes_every_gate():
    learned = first()
    assert all(findings(learned).values()), learned.findings
    assert {"schema", "leakage", "rows", "finite", "range", "log_loss", "calibration", "latency"} <= findings(
        learned
    ).keys()
    card = learned.candidate.card
    assert (card.recipe, card.parent, card.target, card.servable) == ("retrain", "", "conversion", True)
    assert (card.n_rows, card.data_first_ms, card.data_last_ms) == (3_000, 0, 2_999_000)
    assert card.metrics is not None
    assert card.metrics.n_rows == 600
    assert card.metrics.log_loss < card.metrics.base_log_loss


def test_the_judging_rows_are_the_newest_and_the_trial_has_not_seen_them():
    learned = first()
    assert learned.cut == 2_400
    assert learned.trial.card.data_last_ms == 2_399_000
    assert learned.trial.version != learned.candidate.card.version


def test_the_same_rows_and_seed_give_the_same_bytes_and_another_seed_others():
    again = learn(Lesson(rows(), prior(), "retrain", params=FEW, seed=4), created_ms=99)
    assert again.candidate.blob == first().candidate.blob
    assert again.candidate.card.version == first().candidate.card.version
    other = learn(Lesson(rows(), prior(), "retrain", params=FEW, seed=5))
    assert other.candidate.blob != first().candidate.blob


def test_a_model_is_grown_again_from_its_card_and_the_same_rows_alone():
    model = first().candidate
    assert reproduce(model.card, rows()) == model
    with pytest.raises(InvalidInput, match="not those") as refusal:
        reproduce(model.card, rows(seed=8))
    assert refusal.value.code == "not_reproducible"


def test_a_refit_moves_the_leaves_adds_no_tree_and_is_reproducible_with_its_parent():
    parent = first().candidate
    new = rows(1_200, seed=9, start_ms=DAY)
    both = rows_table(np.concatenate([rows().x, new.x]), np.concatenate([rows().y, new.y]),
                      np.concatenate([rows().times, new.times]))  # fmt: skip
    learned = learn(Lesson(both, champion_of(parent), "refit", params=FEW))
    child = learned.candidate
    assert child.blob.count(b"Tree=") == parent.blob.count(b"Tree=")
    assert (child.card.recipe, child.card.parent, child.card.n_rows) == ("refit", parent.card.version, 1_200)
    assert learned.cut == 3_600
    assert reproduce(child.card, new, parent) == child
    with pytest.raises(InvalidInput, match="which is not given"):
        reproduce(child.card, new)


def test_a_champion_is_judged_only_on_rows_newer_than_those_it_learned_from():
    champion = champion_of(first().candidate)
    with pytest.raises(InvalidInput, match="since lgbm-") as refusal:
        learn(Lesson(rows(), champion, "retrain", params=FEW))
    assert refusal.value.code == "too_few_labels"


def test_a_candidate_of_a_world_that_has_gone_is_refused_by_log_loss():
    turned = rows(1_500, seed=11, turned=True, start_ms=DAY)
    champion = champion_of(learn(Lesson(turned, prior(), "retrain", params=FEW)).candidate)
    # The newest rows are of the champion's world, those before them are not.
    stale, newest = rows(3_000, seed=12, start_ms=2 * DAY), rows(2_900, seed=13, turned=True, start_ms=3 * DAY)
    both = rows_table(np.concatenate([stale.x, newest.x]), np.concatenate([stale.y, newest.y]),
                      np.concatenate([stale.times, newest.times]))  # fmt: skip
    learned = learn(Lesson(both, champion, "retrain", params=FEW))
    assert findings(learned)["log_loss"] is False
    assert learned.candidate.card.n_rows == 5_900


def test_a_feature_written_with_the_outcome_is_named_and_the_candidate_refused():
    table = rows()
    x = table.x.copy()
    x[:, MODEL_FEATURES.index("n_purchases")] = np.where(table.y > 0, 7.0, 0.0)
    learned = learn(Lesson(replace(table, x=x), prior(), "retrain", params=FEW))
    [leak] = [finding for finding in learned.findings if finding.gate == "leakage"]
    assert not leak.passed
    assert "'n_purchases'" in leak.sentence


@pytest.mark.parametrize(
    ("table", "code"),
    [
        (rows(300), "too_few_labels"),
        (replace(rows(), y=np.zeros(3_000)), "one_class"),
        (replace(rows(), y=np.ones(3_000)), "one_class"),
        (replace(rows(), schema_hash="0123456789abcdef"), "schema_changed"),
        (replace(rows(), y=np.r_[np.tile([0.0, 1.0], 1_000), np.zeros(1_000)]), "too_few_labels"),
    ],
)
def test_rows_that_cannot_teach_are_refused_with_a_code(table: Table, code: str):
    with pytest.raises(InvalidInput) as refusal:
        learn(Lesson(table, prior(), "retrain", params=FEW))
    assert refusal.value.code == code


def test_there_is_nothing_to_refit_while_the_prior_answers():
    with pytest.raises(InvalidInput) as refusal:
        learn(Lesson(rows(), prior(), "refit", params=FEW))
    assert refusal.value.code == "no_trees"


def test_progress_rises_to_one_and_whoever_hears_it_can_end_the_lesson():
    heard: list[float] = []
    learn(Lesson(rows(1_000), prior(), "retrain", params=FEW), heard.append)
    assert heard == sorted(heard)
    assert (heard[0] < 0.1, heard[-1]) == (True, 1.0)

    def enough(share: float) -> None:
        if share > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(Lesson(rows(1_000), prior(), "retrain", params=FEW), enough)


def test_gates_are_kept_in_the_card_with_their_numbers_and_leave_the_version_alone():
    learned = first()
    model = learned.with_gates(learned.findings)
    assert model.card.version == learned.candidate.card.version
    told = {gate["gate"]: gate for gate in model.card.gates}
    assert told["log_loss"]["verdict"] == "passed"
    assert told["log_loss"]["value"] < 0
    assert type(model.card).from_json(model.card.to_json()) == model.card
