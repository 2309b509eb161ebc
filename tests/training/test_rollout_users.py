"""Each user is observed once in shadow and once in the canaries; corrections and crossovers change the totals."""

import numpy as np
import pytest

from tests.training.rollouts import SHORT, crowd, example
from training.rollout_evidence import CONVERTED, ENGAGED, ERRORS, FAULTS, PAIRS, SLOW, USERS
from training.rollout_users import FEWEST_TIMES, Users

CANARY = "canary-0.1"


def totals(users: Users) -> np.ndarray:
    return users._totals


def seen(*examples) -> Users:
    users = Users("r1", SHORT)
    users.observe(examples)
    return users


def test_a_user_counts_once_however_often_she_is_told_of():
    users = seen(example("a", label=1), example("a", key="d_2"), example("a", label=1), example("b"))
    assert len(users) == 2
    assert (totals(users)[0, USERS], totals(users)[0, CONVERTED]) == (2, 1)


def test_what_has_not_matured_and_what_belongs_to_another_rollout_is_not_observed():
    users = seen(example("a", matured=False), example("b", rollout="r0"), example("c", stage="canary-0.3"))
    assert len(users) == 0


def test_a_user_of_the_shadow_counts_for_the_arms_of_a_canary_and_not_again_for_the_scores():
    users = seen(example("a"), example("a", key="d_2", stage=CANARY, arm="challenger"), example("b", stage=CANARY))
    assert totals(users)[0, PAIRS] == 1
    assert totals(users)[1, [USERS, USERS + 1, PAIRS]].tolist() == [1, 1, 1]
    users.observe([example("a", key="d_3", stage="canary-0.5", arm="challenger")])
    assert totals(users)[2].sum() == 0


def test_whoever_is_seen_in_both_arms_of_a_stage_leaves_the_analysis():
    users = seen(
        example("a", stage=CANARY, arm="challenger", label=1), example("b", stage=CANARY),
        example("a", stage=CANARY, key="d_2"), example("a", stage=CANARY, key="d_3", arm="challenger"),
    )  # fmt: skip
    assert users.n_crossed == 1
    assert totals(users)[1, [USERS, USERS + 1, CONVERTED + 1]].tolist() == [1, 0, 0]


def test_a_refund_and_a_late_engagement_correct_what_was_counted():
    users = seen(example("a", label=1), example("b", label=0))
    before = totals(seen(example("a", label=0, engaged=True), example("b", label=0)))
    users.observe([example("a", label=0, revision=2, engaged=True), example("a", label=1, revision=1)])
    assert totals(users) == pytest.approx(before)


def test_a_withdrawn_decision_leaves_and_one_never_seen_is_not_counted():
    users = seen(example("a", label=1), example("a", revision=2, withdrawn=True), example("b", withdrawn=True))
    assert totals(users).sum() == 0


def test_a_score_that_is_no_number_is_a_fault_and_in_its_own_arm_an_error():
    challenger = {"stage": CANARY, "arm": "challenger"}
    users = seen(
        example("a", p=(0.1, None)), example("b", p=(0.1, 1.5), stage=CANARY),
        example("c", p=(0.1, None), **challenger),
        example("d", p=(0.1, float("nan")), degraded=True, **challenger), example("e", p=(None, None), **challenger),
        example("f", stage=CANARY, degraded=True, p=(None, 0.1)),
    )  # fmt: skip
    assert totals(users)[0, [ERRORS, FAULTS, PAIRS]].tolist() == [0, 1, 0]
    assert totals(users)[1, [ERRORS, ERRORS + 1, FAULTS, PAIRS]].tolist() == [1, 2, 1, 0]


def test_slow_is_what_is_above_the_champions_times_of_the_shadow():
    users = seen(*(example(f"s{i}", took_us=1000 + i) for i in range(FEWEST_TIMES)))
    users.observe(
        [example("a", stage=CANARY, took_us=1150), example("b", stage=CANARY, arm="challenger", took_us=5000)]
    )
    assert users.slow_above == pytest.approx((1099.5, 1189.05, 1197.01))
    assert totals(users)[1, SLOW : SLOW + 6].tolist() == [1, 1, 0, 1, 0, 1]


def test_without_a_shadow_the_first_answers_of_the_champion_say_what_is_slow():
    plan = SHORT.for_book(0.1)
    users = Users("r1", plan)
    users.observe(example(f"s{i}", stage=CANARY, took_us=1000 + i) for i in range(FEWEST_TIMES))
    assert users.slow_above is None
    users.observe([example("late", stage=CANARY, took_us=3000)])
    assert totals(users)[0, SLOW : SLOW + 6 : 2].tolist() == [1, 1, 1]


def test_a_snapshot_is_the_whole_memory():
    users = Users("r1", SHORT)
    users.observe(crowd(300, seed=1))
    users.observe(crowd(300, seed=2, stage=CANARY, share=0.1, who="v"))
    again = Users.restore(users.snapshot(), SHORT)
    assert totals(again) == pytest.approx(totals(users))
    for one in (users, again):
        one.observe(crowd(300, seed=3, stage=CANARY, share=0.1, who="u"))
        one.observe([example("v7", revision=9, key="d_v7", label=1, stage=CANARY)])
    assert totals(again) == pytest.approx(totals(users))
    assert again.numbers(1, scored=True) == users.numbers(1, scored=True)


def test_nothing_is_left_of_a_user_whose_decision_is_withdrawn():
    users = seen(example("a", label=1), example("b"), example("b", stage=CANARY, arm="challenger"))
    users.observe([example("b", stage=CANARY, arm="challenger", revision=2, withdrawn=True)])
    assert totals(users)[1].sum() == 0
    assert users._seen["user"][:3].tolist().count(0) == 1
    again = Users.restore(users.snapshot(), SHORT)
    again.observe([example("b", key="d_2", stage=CANARY)])
    assert totals(again)[1, USERS] == 1, "what she does later is another's"


def test_the_numbers_are_said_as_json_says_them():
    users = Users("r1", SHORT)
    users.observe(crowd(200, stage=CANARY, share=0.1, bad_scores=1.0))
    told = users.numbers(1, scored=True)
    assert told["guards"]["score faults"] is None, "beyond any number"
    assert told["exposed"] == totals(users)[1, USERS + 1]
    assert told["stages"][1]["engaged"][0] == totals(users)[1, ENGAGED]
