"""Off-policy values: right where the log supports them, and refused where it does not."""

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from engine.errors import InvalidInput
from tests.training.builders import write
from training.logged import learn, read_log, value_target
from training.off_policy import dr_scores, effective_size, ips, snips, value, weights
from training.reward_model import design, folds, predict_by_action
from training.rows import read_rows

HILLSTROM_FEATURES = ("recency", "history", "mens", "womens", "zip_code", "newbie", "channel")
TRUTH_BTS, TRUTH_RANDOM = 0.0042, 0.0038


def naive(reward: list[float], w: list[float]) -> dict[str, float]:
    """The estimators by plain loops over the textbook's sums."""
    n = len(reward)
    terms = [a * b for a, b in zip(w, reward, strict=True)]
    mean = sum(terms) / n
    total = math.fsum(w)
    self_normalised = math.fsum(terms) / total
    return {
        "ips": mean,
        "ips error": math.sqrt(math.fsum((t - mean) ** 2 for t in terms) / (n - 1) / n),
        "snips": self_normalised,
        "snips error": math.sqrt(
            math.fsum((a * (b - self_normalised)) ** 2 for a, b in zip(w, reward, strict=True))
        ) / total,
        "effective": total**2 / math.fsum(a * a for a in w),
    }  # fmt: skip


def a_world(n: int, seed: int):
    """Two contexts, three actions, a logging policy that depends on the context; the truth is known."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, n)
    logging = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    target = np.array([[0.1, 0.8, 0.1], [0.3, 0.4, 0.3]])
    pays = np.array([[0.05, 0.2, 0.1], [0.3, 0.1, 0.2]])
    action = (rng.random(n)[:, None] > np.cumsum(logging, axis=1)[x]).sum(axis=1)
    reward = (rng.random(n) < pays[x, action]).astype(float)
    truth = float((target * pays).sum(axis=1).mean())
    return x, action, reward, logging[x, action], target, pays, truth


def obd(data_sets: Path, name: str) -> tuple[np.ndarray, ...]:
    """Item, position from 0, click and propensity of an Open Bandit log, by the csv module alone."""
    with gzip.open(data_sets / f"obd_{name}_all.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    keys = ("item_id", "position", "click", "propensity_score")
    item, position, click, p = (np.array([float(row[key]) for row in rows]) for key in keys)
    return item.astype(int), position.astype(int) - 1, click, p


def thompson(data_sets: Path) -> np.ndarray:
    """How often the logged Thompson policy puts an item on a position, (80, 3): its own prior, drawn 20,000 times."""
    prior = yaml.safe_load((data_sets / "obd_prior_bts.yaml").read_text())["all"]
    rng, n = np.random.default_rng(12345), 20_000
    best = np.argsort(-rng.beta(prior["alpha"], prior["beta"], size=(n, 80)), axis=1)[:, :3]
    return np.stack([np.bincount(best[:, place], minlength=80) / n for place in range(3)], axis=1)


def test_estimators_agree_with_plain_loops():
    _, _, reward, p, *_ = a_world(500, 1)
    w = weights(np.random.default_rng(2).random(500), p)
    expected = naive(reward.tolist(), w.tolist())
    for name, found in (("ips", ips(reward, w)), ("snips", snips(reward, w))):
        assert found.value == pytest.approx(expected[name], abs=1e-9)
        assert found.error == pytest.approx(expected[f"{name} error"], abs=1e-9)
        assert found.upper - found.value == pytest.approx(1.959963984540054 * found.error, abs=1e-9)
    assert effective_size(w) == pytest.approx(expected["effective"], rel=1e-9)
    q, v = np.random.default_rng(3).random((2, 500))
    scores = [v[i] + w[i] * (reward[i] - q[i]) for i in range(500)]
    np.testing.assert_allclose(dr_scores(reward, w, q, v), scores, rtol=0, atol=1e-9)


def test_every_interval_covers_the_truth_about_as_often_as_it_says():
    covered = np.zeros(3)
    n_runs = 300
    for seed in range(n_runs):
        x, action, reward, p, target, pays, truth = a_world(2000, seed)
        # A reward model that is wrong by a third everywhere: right propensities must make up for it.
        q = pays / 1.5
        v = value(reward, weights(target[x, action], p), q[x, action], (target * q).sum(axis=1)[x])
        covered += [e.lower <= truth <= e.upper for e in (v.ips, v.snips, v.dr)]
    assert (covered / n_runs > 0.91).all()
    assert (covered / n_runs < 0.99).all()


def test_a_right_reward_model_makes_up_for_wrong_propensities_and_narrows_the_interval():
    x, action, reward, p, target, pays, truth = a_world(40_000, 5)
    right = value(reward, weights(target[x, action], p), pays[x, action], (target * pays).sum(axis=1)[x])
    wrong = value(reward, weights(target[x, action], np.minimum(1, p * 1.3)), pays[x, action],
                  (target * pays).sum(axis=1)[x])  # fmt: skip
    assert right.dr.error < right.ips.error
    assert abs(wrong.dr.value - truth) < 4 * wrong.dr.error
    assert abs(wrong.ips.value - truth) > 10 * wrong.ips.error
    assert right.verdict == "ok"
    assert wrong.verdict == "refused"
    assert "mean weight" in wrong.why[0]


def test_the_logging_policy_itself_is_worth_what_the_log_earned():
    _, _, reward, p, *_ = a_world(3000, 6)
    v = value(reward, weights(p, p), np.zeros(3000), np.zeros(3000))
    assert v.ips.value == v.snips.value == v.logged == pytest.approx(reward.mean())
    assert v.gain.lower == v.gain.upper == 0
    assert v.effective == pytest.approx(3000)
    assert v.verdict == "ok"


def test_an_action_the_log_never_took_shows_in_the_mean_weight():
    _, action, reward, p, *_ = a_world(5000, 7)
    seen = action != 1
    w = weights(np.where(action[seen] == 0, 0.3, 0.1), p[seen])
    v = value(reward[seen], w, np.zeros(seen.sum()), np.zeros(seen.sum()))
    assert v.verdict == "refused"
    assert "never took" in v.why[0]


def test_propensities_rounded_to_three_places_are_no_reason_to_refuse():
    reward = np.tile([0.0, 1.0, 0.0], 1000)
    assert value(reward, weights(np.full(3000, 1 / 3), np.full(3000, 0.333)), reward * 0, reward * 0).why == ()


def test_a_policy_that_takes_nothing_that_was_logged_is_refused_without_a_crash():
    reward = np.ones(50)
    v = value(reward, np.zeros(50), reward * 0, reward * 0)
    assert v.verdict == "refused"
    assert v.effective == 0
    assert math.isnan(v.snips.value)


@pytest.mark.parametrize(
    ("target", "p", "code"),
    [(0.5, 0.0, "bad_propensity"), (0.5, 1.2, "bad_propensity"), (0.5, math.nan, "bad_propensity"),
     (-0.1, 0.5, "bad_target_prob"), (1.1, 0.5, "bad_target_prob")],
)  # fmt: skip
def test_probabilities_out_of_range_are_refused(target, p, code):
    with pytest.raises(InvalidInput) as refusal:
        weights(np.full(3, target), np.full(3, p))
    assert refusal.value.code == code


def test_a_reward_model_predicts_rows_it_did_not_see():
    rng = np.random.default_rng(8)
    reward = np.zeros(200)
    reward[17] = 1e6
    fold = folds(200, seed=1)
    q = predict_by_action(np.ones((200, 1)), rng.integers(0, 2, 200), reward, 2, fold)
    assert (q[fold == fold[17]] == 0).all()
    assert (q[fold != fold[17]].max(axis=0) > 1000).all()
    assert np.ptp(np.bincount(fold)) == 0


@pytest.mark.parametrize(("cell", "model"), [("0.3333", "action"), ("0.3", "context")])
def test_a_policy_rounded_in_the_file_is_still_seen_to_depend_on_the_action_alone(tmp_path, cell, model):
    lines = ["a,r,pi", *(f"{'xyz'[i % 3]},{i % 2},{cell}" for i in range(900))]
    log = read_log(write(tmp_path / "t.csv", lines), "a", "r", "1/3")
    assert value_target(log, "pi")[1] == model


def test_features_of_text_and_gaps_become_numbers(tmp_path):
    lines = ["a,c,same", *(f"{'' if i % 5 == 0 else i},{'xyz'[i % 3]},7" for i in range(60))]
    x, notes = design(read_rows(write(tmp_path / "t.csv", lines)), ("a", "c", "same"))
    assert x.shape == (60, 1 + 2 + 3)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(x[:, 1:].std(axis=0), 1)
    assert notes == ()


def test_what_works_for_whom_is_learned_where_there_is_something_to_learn(tmp_path):
    rng = np.random.default_rng(9)
    x, arm = rng.integers(0, 2, 6000), rng.integers(0, 2, 6000)
    reward = (rng.random(6000) < np.where(x == arm, 0.4, 0.1)).astype(int)
    lines = ["who,arm,won", *(f"{'ab'[a]},{b},{r}" for a, b, r in zip(x, arm, reward, strict=True))]
    found = learn(read_log(write(tmp_path / "t.csv", lines), "arm", "won", "1/2", ("who",)))
    assert all(c.beats for c in found.comparisons)
    assert found.learned.valuation.dr.lower < 0.4 < found.learned.valuation.dr.upper
    noise = ["who,arm,won", *(f"{'ab'[a]},{b},{r}" for a, b, r in zip(x, arm, rng.permutation(reward), strict=True))]
    nothing = learn(read_log(write(tmp_path / "n.csv", noise), "arm", "won", "0.5", ("who",)))
    assert not any(c.beats for c in nothing.comparisons)
    assert learn(read_log(tmp_path / "n.csv", "arm", "won", "0.5", ("who",))).learned.valuation == (
        nothing.learned.valuation
    )


@pytest.mark.data
def test_open_bandit_random_to_bts_covers_the_truth(data_sets, tmp_path):
    item, position, click, p = obd(data_sets, "random")
    target = thompson(data_sets)[item, position]
    rows = zip(item, click, p, target, position, strict=True)
    path = write(tmp_path / "t.csv", ["item,click,p,pi,position", *(f"{a},{b},{c},{d},{e}" for a, b, c, d, e in rows)])
    v, model = value_target(read_log(path, "item", "click", "p", ("position",)), "pi")
    expected = naive(click.tolist(), (target / p).tolist())
    assert v.ips.value == pytest.approx(expected["ips"], abs=1e-9)
    assert v.snips.value == pytest.approx(expected["snips"], abs=1e-9)
    assert v.ips.value == pytest.approx(0.0046, abs=0.0005)
    for found in (v.ips, v.snips, v.dr):
        assert found.lower < TRUTH_BTS < found.upper
    assert (v.verdict, model) == ("ok", "context")


@pytest.mark.data
def test_open_bandit_bts_to_random_covers_the_truth_but_is_refused_for_its_few_effective_rows(data_sets):
    _, _, click, p = obd(data_sets, "bts")
    log = read_log(data_sets / "obd_bts_all.csv.gz", "item_id", "click", "propensity_score")
    v, model = value_target(log, "1/80")
    expected = naive(click.tolist(), (1 / 80 / p).tolist())
    assert v.ips.value == pytest.approx(expected["ips"], abs=1e-9)
    assert v.snips.value == pytest.approx(expected["snips"], abs=1e-9)
    for found in (v.ips, v.snips, v.dr):
        assert found.lower < TRUTH_RANDOM < found.upper
    assert v.effective == pytest.approx(340.4, abs=0.1)
    assert (v.verdict, model) == ("refused", "action")
    assert v.why == ("effective sample size 340.4 of 10,000 rows is below 500",)


@pytest.mark.data
def test_hillstrom_is_not_said_to_be_beaten_by_a_learned_policy(data_sets):
    log = read_log(data_sets / "hillstrom_dev_half.csv.gz", "segment", "visit", "1/3", HILLSTROM_FEATURES)
    found = learn(log)
    beats = {c.against: c.beats for c in found.comparisons}
    assert beats == {
        "always Mens E-Mail": False, "always No E-Mail": True, "always Womens E-Mail": True,
    }  # fmt: skip
    for constant in found.constants:
        arm = log.actions.index(constant.name.removeprefix("always "))
        seen = float(log.reward[log.action == arm].mean())
        assert constant.valuation.snips.value == pytest.approx(seen, abs=1e-12)
        assert constant.valuation.dr.lower < seen < constant.valuation.dr.upper
        assert constant.valuation.verdict == "ok"
