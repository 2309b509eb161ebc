"""`kairos sequential`, `srm` and `evaluate`: what is printed, what JSON says, and what is refused with which code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.cli import main

COUNTS = ["day,n_champion,conversions_champion,n_challenger,conversions_challenger"]


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def written(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def looks(rate: float, step: int = 2000, n_looks: int = 30) -> list[str]:
    """Totals of a champion at 5 % and a challenger at another rate, exactly as expected."""
    return [*COUNTS, *(f"{i},{i * step},{round(i * step * 0.05)},{i * step},{round(i * step * rate)}"
                       for i in range(1, n_looks + 1))]  # fmt: skip


def a_log(n: int = 3000, p: str = "0.5") -> list[str]:
    rng = np.random.default_rng(1)
    arm, age = rng.integers(0, 2, n), rng.integers(18, 70, n)
    won = rng.random(n) < 0.1 + 0.1 * arm
    return ["arm,won,p,new,age", *(f"{'ab'[a]},{int(w)},{p},{0.2 + 0.6 * a},{g}"
                                   for a, w, g in zip(arm, won, age, strict=True))]  # fmt: skip


def test_a_worse_challenger_stops_the_test_and_is_rolled_back(tmp_path, capsys):
    path = written(tmp_path / "looks.csv", looks(0.035))
    found = as_json(capsys, "sequential", "--from", path)["series"][0]
    assert found["rollout"]["what"] == "roll back"
    assert found["stopped"]["what"] == "challenger worse"
    assert found["stopped"]["users"] <= found["rollout"]["users"] <= 20_000
    last = found["looks"][-1]
    assert last["difference_interval"][1] < 0
    assert last["ratio_interval"][0] < 0.7 < last["ratio_interval"][1] < 0.9
    assert main(["sequential", "--from", path]) == 0
    assert "rollout     stopped at look" in capsys.readouterr().out


def test_equal_arms_are_promoted_with_a_margin_and_never_called_different(tmp_path, capsys):
    found = as_json(capsys, "sequential", "--from", written(tmp_path / "looks.csv", looks(0.05)))["series"][0]
    assert found["stopped"] is None
    assert found["rollout"]["what"] == "promote"


def test_means_and_variances_of_many_tests_in_one_file_are_read_by_their_usual_names(tmp_path, capsys):
    head = "experiment_id,metric_id,time_since_start,count_c,count_t,mean_c,mean_t,variance_c,variance_t"
    rows = [f"e1,{m},{t},{t * 3000},{t * 3010},1.0,{1.0 + 0.2 * m},2,2.5" for m in (0, 1) for t in (2, 1, 3)]
    path = written(tmp_path / "asos.csv", [head, *rows, "e1,1,4,9000,9030,,1,2,2"])
    found = as_json(capsys, "sequential", "--from", path)
    assert [one["name"] for one in found["series"]] == ["experiment_id=e1 metric_id=0", "experiment_id=e1 metric_id=1"]
    same, better = found["series"]
    assert [look["look"] for look in same["looks"]] == ["1", "2", "3"]
    assert same["stopped"] is None
    assert better["stopped"] == {"place": 1, "look": "1", "users": 6010.0, "what": "challenger better"}
    assert [bad["line"] for bad in found["bad"]] == [8]
    assert main(["sequential", "--from", path]) == 0
    assert "series      2, 1 stopped" in capsys.readouterr().out


def test_a_test_whose_users_are_not_split_as_planned_is_invalid_from_there_on(tmp_path, capsys):
    lines = [COUNTS[0], *(f"{i},{i * 1000},{i * 50},{i * 1200},{i * 20}" for i in range(1, 9))]
    path = written(tmp_path / "looks.csv", lines)
    found = as_json(capsys, "sequential", "--from", path)["series"][0]
    assert found["stopped"]["what"] == found["rollout"]["what"] == "invalid"
    planned = as_json(capsys, "sequential", "--from", path, "--share", str(1200 / 2200))["series"][0]
    assert planned["stopped"]["what"] == "challenger worse"


def test_looks_that_cannot_be_read_are_named(tmp_path, capsys):
    odd = written(tmp_path / "odd.csv", ["n_x,mean_y", "1,2"])
    assert "(looks_columns)" in refused(capsys, "sequential", "--from", odd)
    falling = written(tmp_path / "falling.csv", [COUNTS[0], "1,100,5,100,5", "2,50,5,100,5"])
    said = refused(capsys, "sequential", "--from", falling)
    assert "line 3" in said
    assert "(looks_not_cumulative)" in said
    impossible = written(tmp_path / "impossible.csv", [COUNTS[0], "1,100,500,100,5"])
    assert "(no_looks)" in refused(capsys, "sequential", "--from", impossible)
    good = written(tmp_path / "good.csv", looks(0.05))
    assert "did you mean 'day'" in refused(capsys, "sequential", "--from", good, "--by", "dai")
    assert "(bad_alpha)" in refused(capsys, "sequential", "--from", good, "--alpha", "1.5")
    assert "(bad_share)" in refused(capsys, "sequential", "--from", good, "--share", "0")
    assert "(bad_margin)" in refused(capsys, "sequential", "--from", good, "--margin", "1")
    assert "(bad_horizon)" in refused(capsys, "sequential", "--from", good, "--tuned-for", "0")
    assert "(bad_arms)" in refused(capsys, "sequential", "--from", good, "--arms", "one")


def test_a_split_is_tested_against_the_plan(capsys):
    assert as_json(capsys, "srm", "--counts", "5021,4987")["verdict"] == "ok"
    found = as_json(capsys, "srm", "--counts", "8200,1200,600", "--shares", "8,1,1")
    assert (found["verdict"], found["planned"]) == ("mismatch", [0.8, 0.1, 0.1])
    assert found["p_anytime"] < 0.001
    assert as_json(capsys, "srm", "--counts", "0,0")["log_e"] == pytest.approx(0)
    assert main(["srm", "--counts", "5021,4987"]) == 0
    assert "verdict     ok" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--counts", "5"], "one_arm"), (["--counts", "5,x"], "bad_counts"), (["--counts", "5,-1"], "bad_counts"),
     (["--counts", "5,5.5"], "bad_counts"), (["--counts", "5,5", "--shares", "1"], "bad_shares"),
     (["--counts", "5,5", "--shares", "1,0"], "bad_shares"), (["--counts", "5,5", "--alpha", "0"], "bad_alpha")],
)  # fmt: skip
def test_a_split_that_makes_no_sense_is_refused(capsys, words, code):
    assert f"({code})" in refused(capsys, "srm", *words)


def evaluating(path: str, *words: str) -> list[str]:
    return ["evaluate", "--log", path, "--action", "arm", "--reward", "won", "--propensity", "p", *words]


def test_a_policy_is_valued_from_the_log_of_another(tmp_path, capsys):
    path = written(tmp_path / "log.csv", a_log())
    found = as_json(capsys, *evaluating(path, "--target-prob", "new"))
    assert (found["verdict"], found["why"], found["reward_model"]) == ("ok", [], "action")
    assert found["dr"]["lower"] < 0.18 < found["dr"]["upper"]
    assert found["gain"]["lower"] > 0
    assert found["mean_weight"] == pytest.approx(1, abs=0.05)
    assert main(evaluating(path, "--target-prob", "new")) == 0
    assert "verdict     ok" in capsys.readouterr().out


def test_wrong_propensities_are_refused_in_words_and_in_json(tmp_path, capsys):
    path = written(tmp_path / "log.csv", a_log(p="0.3"))
    found = as_json(capsys, *evaluating(path, "--target-prob", "new"))
    assert found["verdict"] == "refused"
    assert "mean weight" in found["why"][0]
    assert main(evaluating(path, "--target-prob", "new")) == 0
    assert "refused: do not use these figures" in capsys.readouterr().out


def test_a_learned_policy_stands_beside_every_constant_one(tmp_path, capsys):
    path = written(tmp_path / "log.csv", a_log())
    found = as_json(capsys, *evaluating(path, "--learn", "--features", "age"))
    assert [one["name"] for one in found["policies"]] == ["learned", "always a", "always b"]
    assert {c["against"]: c["beats"] for c in found["comparisons"]} == {"always a": True, "always b": False}
    assert main(evaluating(path, "--learn", "--features", "age")) == 0
    assert "learned is not shown to beat always b" in capsys.readouterr().out


def test_a_log_that_cannot_be_valued_is_refused_with_its_code(tmp_path, capsys):
    path = written(tmp_path / "log.csv", a_log(200))
    target = ("--target-prob", "new")
    said = refused(
        capsys, "evaluate", "--log", path, "--action", "arms", "--reward", "won", "--propensity", "p", *target
    )
    assert "--action: no column 'arms' (did you mean 'arm'?)" in said
    assert "(column_missing)" in said
    assert "(column_missing)" in refused(capsys, *evaluating(path, "--learn", "--features", "ages"))
    assert "(no_policy)" in refused(capsys, *evaluating(path))
    assert "(no_policy)" in refused(capsys, *evaluating(path, "--learn", *target))
    assert "(no_features)" in refused(capsys, *evaluating(path, "--learn"))
    assert "(bad_features)" in refused(capsys, *evaluating(path, "--learn", "--features", "won"))
    assert "(bad_confidence)" in refused(capsys, *evaluating(path, *target, "--confidence", "1"))
    assert "(bad_target_prob)" in refused(capsys, *evaluating(path, "--target-prob", "1.5"))
    for p in ("0", "1.01", "", "often", "1e-300"):
        wrong = written(tmp_path / "wrong.csv", [*a_log(200), f"a,1,{p},0.2,30", f"a,1,{p},0.2,30"])
        said = refused(capsys, *evaluating(wrong, *target))
        assert "line 202" in said
        assert "(bad_propensity)" in said
    wrong = written(tmp_path / "wrong.csv", [*a_log(200), "a,much,0.5,0.2,30"])
    assert "(bad_reward)" in refused(capsys, *evaluating(wrong, *target))
    one = written(tmp_path / "one.csv", ["arm,won,p,new,age", *["a,1,0.5,0.2,30"] * 20])
    assert "(one_arm)" in refused(capsys, *evaluating(one, *target))
    assert "(table_unreadable)" in refused(capsys, *evaluating(str(tmp_path / "none.csv"), *target))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("sequential", "--from", "nowhere.csv"), "table_unreadable"),
        (("srm", "--counts", "1"), "one_arm"),
        (("evaluate", "--log", "nowhere.csv"), "usage"),
        (("train", "--from", "nowhere.csv", "--label", "y"), "table_unreadable"),
        (("backtest", "--from", "nowhere.csv", "--label", "y"), "table_unreadable"),
    ],
)
def test_who_asks_for_json_is_told_of_an_error_in_json_and_people_in_a_line(words, code, capsys):
    assert main([*words, "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["code"] == code
    assert said.err.count("\n") == 1
    assert f"({code})" in said.err
