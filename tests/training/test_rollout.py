"""A rollout climbs its ramp, ends in the order of verdicts, and is held back and ended by people."""

import math
from dataclasses import replace

import pytest

from engine.errors import Conflict, InvalidInput
from tests.training.rollouts import SHORT, crowd
from training.rollout import Phase, Rollout, decide, look, pause, promote, resume, roll_back, start
from training.rollout_expected import Traffic, expected
from training.rollout_plan import DAY_S, Plan, Stage, ramp
from training.rollout_users import Users
from training.verdict import Verdict

NEW = Rollout("r1", "model", "m2", SHORT, 0)


def at(stage: int, since_ms: int = 0) -> Rollout:
    return replace(start(NEW, "m1", 0)[0], stage=stage, since_ms=since_ms)


def judged(rollout: Rollout, users: Users, now_s: float, missing: str | None = None):
    readings = users.readings(rollout.stage, scored=rollout.scored)
    return look(rollout, readings, int(now_s * 1000), {}, missing)


def users_of(*crowds) -> Users:
    users = Users("r1", SHORT)
    for one in crowds:
        users.observe(one)
    return users


def test_an_equal_candidate_climbs_from_shadow_to_promotion():
    rollout, said = start(NEW, "m1", 0)
    assert rollout.pointer() == {
        "id": "r1", "kind": "model", "candidate": "m2", "stage": "shadow", "share": 0.0, "since_ms": 0,
    }  # fmt: skip
    users = users_of(crowd(20_000, noise=0.02))
    rollout, event = judged(rollout, users, 11)
    assert (rollout.at.share, event.what) == (0.1, "stage")
    users.observe(crowd(1000, seed=2, stage="canary-0.1", share=0.1, who="v"))
    assert judged(rollout, users, 12) is None, "ten seconds at least"
    rollout, event = judged(rollout, users, 22)
    assert rollout.pointer()["share"] == 0.5
    users.observe(crowd(20_000, seed=3, stage="canary-0.5", share=0.5, who="w", noise=0.02))
    rollout, event = judged(rollout, users, 33)
    assert (rollout.phase, event.what) == (Phase.PROMOTED, "promoted in canary 50 %")
    assert rollout.pointer() is None
    assert said.by == event.by == "kairos"


@pytest.mark.parametrize(
    ("world", "stage", "guard"),
    [({"bad_scores": 0.5}, 0, "score faults"), ({"scale": 1.5}, 0, "calibration"),
     ({"blind": True, "noise": 0.0}, 0, "log-loss"), ({"times": 0.5}, 2, "conversion"),
     ({"slower": 2.0}, 2, "latency")],
)  # fmt: skip
def test_each_kind_of_harm_is_rolled_back_by_its_guard(world, stage, guard):
    name = f"canary-{SHORT.stages[stage].share}" if stage else "shadow"
    users = users_of(crowd(300, seed=8, who="s"), crowd(6000, stage=name, share=SHORT.stages[stage].share, **world))
    after, event = judged(at(stage), users, 5)
    assert after.phase is Phase.ROLLED_BACK
    assert guard in event.why, event.why


def test_a_candidate_that_is_less_off_than_the_champion_is_not_at_fault():
    def told(champion: float, challenger: float):
        users = Users("r1", SHORT)
        users.observe(e._replace(trial=(*e.trial[:3], champion, challenger)) for e in crowd(4000, rate=0.3))
        return users.readings(0, scored=True).guards["calibration"]

    assert told(0.34, 0.6) > 20, "the truth is 0.34"
    assert told(0.7, 0.6) < 0
    assert told(0.28, 0.6) > 20, "further off than the champion, if the other way"
    assert told(0.02, 0.45) < 0


def test_a_split_that_is_not_as_planned_is_invalid_and_goes_back():
    users = users_of(crowd(2000, stage="canary-0.1", share=0.3))
    after, event = judged(at(1), users, 5)
    assert after.phase is Phase.ROLLED_BACK
    assert event.why.startswith("invalid: users are not split as planned")


def test_missing_data_ends_it_whatever_else_is_known():
    after, event = judged(at(1), users_of(), 1, missing="the champion was replaced by hand")
    assert (after.phase, event.why) == (Phase.ROLLED_BACK, "invalid: the champion was replaced by hand")


def test_at_the_horizon_the_champion_stays():
    after, event = judged(at(0), users_of(crowd(40)), 1001)
    assert after.phase is Phase.KEPT_CHAMPION
    assert "unknown" in event.why


def test_the_scores_of_the_same_model_differ_by_nothing_and_that_is_enough():
    users = Users("r1", SHORT)
    users.observe(e._replace(trial=(*e.trial[:4], e.trial[3])) for e in crowd(400))
    assert judged(at(0), users, 11)[0].stage == 1


def test_a_pause_stops_the_ramp_and_its_clock_and_leaves_the_guards_awake():
    users = users_of(crowd(20_000, noise=0.02))
    rollout, event = pause(at(0), "ann", "", 5000, {})
    assert (event.what, event.by) == ("paused", "ann")
    assert judged(rollout, users, 100) is None
    assert rollout.pointer() is not None, "users keep their arms"
    users.observe(crowd(10, bad_scores=1.0, who="n"))
    assert judged(rollout, users, 100)[0].phase is Phase.ROLLED_BACK
    back, _ = resume(rollout, "ann", "", 100_000, {})
    assert back.elapsed_s(101_000) == 6


def test_people_promote_roll_back_pause_and_resume_only_what_is_under_way():
    assert promote(at(1), "ann", "sale", 1, {})[1].why == "sale"
    assert roll_back(NEW, "ann", "", 1, {})[0].phase is Phase.ROLLED_BACK, "also what waits"
    ended = roll_back(at(1), "ann", "", 1, {})[0]
    for verb in (promote, roll_back, pause, resume):
        with pytest.raises(Conflict, match="is rolled_back"):
            verb(ended, "ann", "", 2, {})
    with pytest.raises(Conflict):
        resume(at(1), "ann", "", 2, {})


def test_a_book_needs_no_scores_and_only_its_conversion_to_be_promoted():
    plan = SHORT.for_book(0.3)
    assert [stage.share for stage in plan.stages] == [0.3, 0.5]
    book = replace(at(0), kind="book", plan=plan, stage=1)
    users = Users("r1", plan)
    users.observe(e._replace(trial=(*e.trial[:3], 0.1, 0.1)) for e in crowd(20_000, stage="canary-0.5", share=0.5))
    readings = users.readings(1, scored=False)
    assert "score faults" not in readings.guards
    assert decide(book, readings, 11_000).verdict is Verdict.PROMOTE


def test_a_rollout_is_kept_as_json_and_comes_back_equal():
    rollout = pause(at(1), "ann", "", 5000, {})[0]
    assert Rollout.from_dict(rollout.to_dict()) == rollout


@pytest.mark.parametrize("shares", [(), (0.0,), (0.5, 0.1), (0.1, 0.1), (0.0, 0.6), (0.0, math.nan)])
def test_a_ramp_that_does_not_climb_is_refused(shares):
    with pytest.raises(InvalidInput, match=r"share|canary"):
        Plan(stages=tuple(Stage(share, 0, 1) for share in shares))


def test_columns_of_settings_make_the_stages():
    assert ramp((0.0, 0.5), (1, 2), (10, 20), (5, 6)) == (Stage(0.0, 1, 10, 5), Stage(0.5, 2, 20, 6))
    with pytest.raises(InvalidInput):
        ramp((0.0, 0.5), (1,), (10, 20), (5, 6))


def test_the_expected_days_grow_as_traffic_and_margin_shrink():
    busy = expected(Plan(), Traffic(100_000, 0.05))
    calm = expected(Plan(), Traffic(1000, 0.05))
    strict = expected(Plan(margin=0.05), Traffic(100_000, 0.05))
    assert busy.within_horizon
    assert not calm.within_horizon
    assert busy.days < strict.days < calm.days
    assert busy.stages[0] == pytest.approx(3600 / DAY_S)
    assert expected(Plan(), Traffic(0, 0.05)).to_dict()["days"] is None
