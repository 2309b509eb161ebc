"""The verdict comes in a fixed order, whatever else is known."""

import math

import pytest

from training.verdict import Limits, Standing, Verdict, rule

LIMITS = Limits(alpha=0.05, margin=0.1, quality_margin=0.001, minimum_s=3600, horizon_s=86_400)
GOOD = {"elapsed_s": 7200, "not_worse_log_e": 4.0, "quality_upper": -0.002}
GUARDS = {"conversion": 0.0, "errors": 0.0, "latency": 0.0, "calibration": 0.0}


def test_a_wrong_split_makes_everything_else_void():
    harm = {**GUARDS, "errors": 50.0}
    assert rule(Standing(**GOOD, srm_log_e=7.0, guards=harm), LIMITS).verdict is Verdict.INVALID
    assert rule(Standing(**GOOD, srm_log_e=6.8, guards=harm), LIMITS).verdict is Verdict.ROLL_BACK


def test_missing_data_and_evidence_that_is_no_number_are_invalid_too():
    assert rule(Standing(**GOOD, missing="no rewards for an hour"), LIMITS).why == "no rewards for an hour"
    ruling = rule(Standing(**GOOD, guards={"latency": math.nan}), LIMITS)
    assert (ruling.verdict, ruling.why) == (Verdict.INVALID, "not a number: latency")


def test_harm_comes_before_promotion_and_names_its_guard():
    ruling = rule(Standing(**GOOD, guards={**GUARDS, "errors": 4.5}), LIMITS)
    assert ruling.verdict is Verdict.ROLL_BACK
    assert "errors" in ruling.why


def test_guards_share_the_error():
    between = (math.log(1 / 0.05) + math.log(4 / 0.05)) / 2
    assert rule(Standing(**GOOD, guards={**GUARDS, "errors": between}), LIMITS).verdict is Verdict.PROMOTE
    assert rule(Standing(**GOOD, guards={"errors": between}), LIMITS).verdict is Verdict.ROLL_BACK


@pytest.mark.parametrize(
    ("change", "why"),
    [({"quality_upper": 0.002}, "log-loss"), ({"quality_upper": None}, "unknown"), ({"not_worse_log_e": 2.9}, "10%"),
     ({"elapsed_s": 60}, "minimum"), ({"quality_upper": math.nan}, "log-loss")],
)  # fmt: skip
def test_each_thing_promotion_needs_is_needed_and_is_said(change, why):
    assert rule(Standing(**GOOD, guards=GUARDS), LIMITS).verdict is Verdict.PROMOTE
    ruling = rule(Standing(**{**GOOD, **change}, guards=GUARDS), LIMITS)
    assert ruling.verdict is Verdict.GO_ON
    assert why in ruling.why


def test_at_the_horizon_the_champion_stays_unless_the_challenger_has_earned_it():
    late = {**GOOD, "elapsed_s": 86_400}
    assert rule(Standing(**late, guards=GUARDS), LIMITS).verdict is Verdict.PROMOTE
    assert rule(Standing(**{**late, "quality_upper": None}, guards=GUARDS), LIMITS).verdict is Verdict.KEEP_CHAMPION
