"""The loop learns from matured rows, lets the better model answer, and takes none that is not."""

from dataclasses import replace

import numpy as np
import pytest

from engine.errors import InvalidInput
from training import online
from training.fit import fit_trees, parameters_for, refit_trees
from training.gates import losses
from training.metrics import auc, log_loss
from training.native import NativeBooster
from training.online import OnlineLoop, Policy
from training.table import Table

FEW = {"n_rounds": 30, "learning_rate": 0.1}


def world(n, sign=1.0, rate=-1.8, seed=41):
    """Rows in which the first feature converts (or, with sign −1, its opposite), and the other is noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    y = (rng.random(n) < 1 / (1 + np.exp(-(rate + 1.5 * sign * x[:, 0])))).astype(np.float64)
    return Table(("interest", "noise"), x, y, "test", servable=False)


def loop(policy=None, seed=0, n=2_000):
    return OnlineLoop(world(n), policy or Policy(window=n), seed, FEW)


def feed(one, table):
    return np.array([one.observe(row, float(label)) for row, label in zip(table.x, table.y, strict=True)])


def test_in_a_world_that_turns_round_drift_is_noticed_and_a_fresh_model_takes_over():
    one, turned = loop(n=4_000), world(6_000, sign=-1, seed=42)
    first, looks, answers = one.champion, [], []
    for start in range(0, 6_000, 1_000):
        part = replace(turned, x=turned.x[start : start + 1_000], y=turned.y[start : start + 1_000])
        answers.append(feed(one, part))
        looks.append(one.look())
    frozen = first.predictor().predict_many(turned.x)
    assert {"log_loss"} <= {alarm.cause for alarm in looks[0].alarms}
    assert (looks[0].recipe, looks[0].why) == ("retrain", "drift")
    assert any(look.promoted for look in looks[:2])
    assert auc(turned.y, frozen) < 0.3
    assert auc(turned.y[3_000:], np.concatenate(answers)[3_000:]) > 0.7
    assert log_loss(turned.y, np.concatenate(answers)) < log_loss(turned.y, frozen) - 0.1


def test_in_a_world_that_stays_leaves_are_refitted_and_trees_grown_on_schedule():
    one = loop(Policy(window=2_000, retrain_every=3))
    looks = []
    for seed in range(50, 56):
        feed(one, world(600, seed=seed))
        looks.append(one.look())
    assert all(look.alarms == () for look in looks)
    assert [(look.recipe, look.why) for look in looks[:3]] == [("refit", "cadence")] * 2 + [("retrain", "schedule")]
    assert not any(look.rolled_back for look in looks)


def test_the_champion_answers_before_it_has_seen_the_label():
    one, rows = loop(), world(300, seed=43)
    before = one.champion.predictor().predict_many(rows.x)
    np.testing.assert_array_equal(feed(one, rows), before)
    np.testing.assert_array_equal([one.predict(row) for row in rows.x], before)


def test_the_same_rows_and_seed_give_the_same_looks_and_models():
    def run(seed):
        one = loop(seed=seed)
        looks = []
        for part in (44, 45):
            feed(one, world(800, sign=-1, seed=part))
            looks.append(one.look())
        return looks, one.champion.blob

    assert run(7) == run(7)
    assert run(7)[1] != run(8)[1]


def test_too_few_outcomes_wait_for_the_next_look_and_are_not_lost():
    one = loop()
    assert one.look().recipe == "wait"
    rows = world(640, sign=-1, seed=46)
    feed(one, replace(rows, x=rows.x[:40], y=rows.y[:40]))
    waiting = one.look()
    assert (waiting.recipe, waiting.promoted) == ("wait", False)
    assert "are needed" in waiting.judgement.why_not
    feed(one, replace(rows, x=rows.x[40:], y=rows.y[40:]))
    assert one.look().promoted
    assert len(one._y) == 2_000
    np.testing.assert_array_equal(one._y[-640:], rows.y)


def test_memory_stays_within_the_window_and_the_number_of_trees_with_it():
    one = loop(Policy(window=500), n=500)
    for seed in range(60, 66):
        feed(one, world(900, seed=seed))
        one.look()
        assert len(one._y) == len(one._x) == 500
        assert not one._new
        assert one.champion.blob.count(b"\nTree=") == 30


def test_a_candidate_spoilt_in_training_never_answers(monkeypatch):
    """Poisoned labels: the trial is the inverse of the world, whatever the recipe."""
    one = loop()
    first = one.champion.card.version
    honest_fit, honest_refit = online.fit_trees, online.refit_trees
    monkeypatch.setattr(online, "fit_trees", lambda t, p: honest_fit(replace(t, y=1 - t.y), p))
    monkeypatch.setattr(online, "refit_trees", lambda b, x, y, d, p: honest_refit(b, x, 1 - y, d, p))
    for seed in range(70, 76):
        feed(one, world(600, seed=seed))
        look = one.look()
        assert not look.promoted
        assert "log-loss" in look.judgement.why_not
    assert one.champion.card.version == first


def test_a_champion_that_turns_out_worse_gives_way_to_its_predecessor(monkeypatch):
    one = loop()
    first = one.champion.card.version
    monkeypatch.setattr(online, "judge", lambda y, a, b, limits: online.Judgement(()))  # gates that let all through
    honest = online.refit_trees
    monkeypatch.setattr(online, "refit_trees", lambda b, x, y, d, p: honest(b, x, 1 - y, 0.1, p))
    feed(one, world(600, seed=80))
    assert one.look().promoted
    assert one.champion.card.version != first
    monkeypatch.undo()
    feed(one, world(30, seed=82))
    after = one.look()
    assert after.rolled_back
    assert (after.recipe, after.champion) == ("wait", first)


def test_what_visitors_were_answered_by_another_model_is_what_drift_is_watched_on():
    one, rows = loop(), world(2_000, seed=83)
    for at, (row, label) in enumerate(zip(rows.x, rows.y, strict=True)):
        served = None if at < 1_000 else 0.9
        assert one.observe(row, float(label), served) == one.predict(row)
    assert {"log_loss", "residual"} <= {alarm.cause for alarm in one.look().alarms}


@pytest.mark.parametrize("label", [0.5, float("nan"), 2.0])
def test_a_label_that_is_none_is_refused(label):
    with pytest.raises(InvalidInput) as refusal:
        loop().observe(np.zeros(2), label)
    assert refusal.value.code == "bad_label"


def test_a_refit_moves_leaves_towards_new_rows_and_keeps_the_trees():
    old, new = world(2_000), world(2_000, rate=-0.5, seed=90)
    parameters = parameters_for(2_000, FEW, 0)
    blob = fit_trees(old, parameters).blob
    kept, moved = (refit_trees(blob, new.x, new.y, decay, parameters).blob for decay in (1.0, 0.2))
    again = refit_trees(blob, new.x, new.y, 0.2, parameters).blob
    before, same, after = (NativeBooster(b).predict_many(new.x) for b in (blob, kept, moved))
    assert moved == again
    np.testing.assert_allclose(same, before, rtol=1e-9)
    assert losses(new.y, after).mean() < losses(new.y, before).mean() - 0.02
    assert moved.count(b"\nTree=") == blob.count(b"\nTree=")


def test_a_refit_on_no_rows_is_refused_in_words():
    parameters = parameters_for(2_000, FEW, 0)
    blob = fit_trees(world(2_000), parameters).blob
    with pytest.raises(InvalidInput) as refusal:
        refit_trees(blob, np.empty((0, 2)), np.empty(0), 0.5, parameters)
    assert refusal.value.code == "bad_parameters"
