"""The command line: its frame, and the commands around a running Kairos: `up`, `explain`, `doctor`."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import httpx
import psutil
import pytest

from engine.errors import Conflict, InvalidInput, NotFound, Unavailable
from serving import cli, doctor, doctor_running, running
from serving.cli import COMMANDS, load, main
from serving.remote import remote
from serving.settings import Settings
from serving.told import told
from tests.serving.command_line import PLACES, help_of, in_a_process

# -- the frame ----------------------------------------------------------------------------------------------


def test_the_help_names_every_command():
    shown = help_of()
    for name, line in COMMANDS.items():
        assert name in shown
        assert line in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_needs_neither_ray_nor_lightgbm(name):
    probe = (
        "import sys\nfrom serving.cli import main\n"
        f"code = main([{name!r}, '--help'])\n"
        "heavy = sorted({'ray', 'lightgbm', 'redis', 'scipy', 'pandas'} & set(sys.modules))\n"
        "assert not heavy, heavy\nsys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", probe], cwd=PLACES, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert f"kairos {name}" in ran.stdout


def test_help_for_a_pipe_and_for_no_color_has_no_colours():
    assert "\x1b" not in help_of("train")
    assert "\x1b" not in in_a_process("validate", "--nope", NO_COLOR="1").stderr


def test_the_version_is_that_of_the_package():
    assert re.fullmatch(r"kairos \d+\.\d+\.\d+\n", in_a_process("--version").stdout)


def test_a_misspelt_command_names_the_nearest(capsys):
    assert main(["valdate"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "'validate'" in line


def test_a_missing_option_is_one_line_that_says_where_to_look(capsys):
    assert main(["train", "--from", "x.csv"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--label" in line
    assert "kairos train --help" in line


@pytest.mark.parametrize(
    ("error", "code"),
    [(InvalidInput("bad", "it is wrong"), 2), (Unavailable("away", "it is away"), 1), (Conflict("c", "taken"), 1)],
)
def test_an_error_is_one_line_with_its_code_and_an_exit_code_by_its_kind(error, code, capsys, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("serving.cli.explain.remote", fail)
    assert main(["explain", "d_1_1_1_0"]) == code
    assert capsys.readouterr().err == f"error: {error.message} ({error.code})\n"


def test_debug_may_stand_anywhere_and_shows_where_an_error_came_from(monkeypatch):
    def fail(*_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr("serving.cli.explain.remote", fail)
    with pytest.raises(KeyError):
        main(["explain", "d_1_1_1_0", "--debug"])
    with pytest.raises(KeyError):
        main(["--debug", "explain", "d_1_1_1_0"])


def test_an_unexpected_error_is_one_line_without_debug(monkeypatch, capsys):
    def fail(*_: object) -> None:
        raise ValueError("of two\nlines")

    monkeypatch.setattr("serving.cli.explain.remote", fail)
    assert main(["explain", "d_1_1_1_0"]) == 1
    assert capsys.readouterr().err == "error: ValueError: of two lines; --debug shows where (unexpected)\n"


def test_an_interruption_is_130(monkeypatch):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("serving.cli.explain.remote", fail)
    assert main(["explain", "d_1_1_1_0"]) == 130


# -- up -----------------------------------------------------------------------------------------------------


def test_the_help_of_up_shows_the_defaults_of_the_settings():
    shown, settings = re.sub(r"[│\s]+", " ", help_of("up")), Settings()
    for value in (settings.port, settings.host, settings.data_dir, "half of the processors"):
        assert f"[default: ({value})]" in shown


def test_up_hands_on_what_was_given_and_leaves_the_rest_to_the_settings(monkeypatch, tmp_path):
    given = []
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr("serving.up.run_up", lambda options: given.append(options) or 0)
    assert main(["up", "--port", "8123", "--data-dir", str(tmp_path), "--shards", "5", "--allow-weak-store"]) == 0
    assert main(["up"]) == 0
    first, bare = given
    assert (first.port, first.data_dir, first.n_shards, first.allow_weak_store) == (8123, tmp_path, 5, True)
    assert {bare.port, bare.host, bare.data_dir, bare.n_shards, bare.redis_url} == {None}


def test_up_takes_the_store_from_the_environment(monkeypatch):
    given = []
    monkeypatch.setenv("REDIS_URL", "redis://store:6379")
    monkeypatch.setattr("serving.up.run_up", lambda options: given.append(options) or 0)
    main(["up"])
    assert given[0].redis_url == "redis://store:6379"


# -- explain ------------------------------------------------------------------------------------------------

RECORD = {
    "decisionId": "d_3_1_17_0", "profileId": "p_x", "placement": "cart_page", "campaign": "cart", "at_ms": 0,
    "items": [{"id": "ship", "kind": "offer", "reason": "DRAWN", "propensity": 0.75}],
    "score": {"value": 0.5, "recency": 1.0, "depth": 0.5, "conversion": 0.2, "stage": "cart",
              "weights": {"recency": 0.3, "depth": 0.2, "conversion": 0.5}},
    "model": {"version": "prior-1", "arm": "champion"}, "versions": {"book": "b1-abc"}, "degraded": None,
    "explain": {
        "text": "shown: ship",
        "segments": [{"name": "close", "member": True, "clauses": [{"text": "depth 0.5 > 0.4"}]}],
        "offers": [{"offer": "ship", "text": "shown", "p": 0.3, "uplift": 0.1, "worth": None}],
        "draws": [{"drawn": "ship", "propensities": {"": 0.25, "ship": 0.75}}],
    },
    "identical": False, "replay": {"differs": ["items"]},
}  # fmt: skip


def test_an_explanation_tells_score_segment_offer_draw_and_replay():
    text = "\n".join(told(RECORD))
    assert "shown       ship (offer, DRAWN, p 0.75)" in text
    assert "score       0.5 = 0.3 × recency 1 + 0.2 × depth 0.5 + 0.5 × conversion 0.2  (stage cart)" in text
    assert "in close" in text
    assert "depth 0.5 > 0.4" in text
    assert "offer       ship: shown  (p 0.3, uplift 0.1)" in text
    assert "ship, of none 0.25, ship 0.75" in text
    assert "replay      differs: items" in text


@pytest.mark.parametrize(
    ("status", "kind", "code"), [(404, NotFound, "unknown_decision"), (401, Exception, "missing_key")]
)
def test_a_problem_of_the_server_becomes_its_code(status, kind, code, monkeypatch):
    answer = httpx.Response(status, json={"code": code, "message": "no"})
    monkeypatch.setattr(httpx, "request", lambda *_, **__: answer)
    with pytest.raises(kind) as caught:
        remote("GET", "http://127.0.0.1:1", "/v1/decisions/d_1_1_1_0", None)
    assert caught.value.code == code


def test_a_replay_that_differs_is_a_failure_for_scripts(monkeypatch, capsys):
    monkeypatch.setattr("serving.cli.explain.remote", lambda *_: RECORD)
    assert main(["explain", "d_3_1_17_0", "--replay", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == RECORD
    assert main(["explain", "d_3_1_17_0"]) == 0


# -- doctor -------------------------------------------------------------------------------------------------


def test_doctor_as_json_names_what_it_looked_at(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ran = in_a_process("doctor", "--json", "--data-dir", str(tmp_path), "--port", str(port), REDIS_URL="")
    report = json.loads(ran.stdout)
    seen = {one["what"]: one["state"] for one in report["findings"]}
    assert {"python", "libgomp", "lightgbm", "haproxy", "memory", "disk", "store binary", "store"} <= set(seen)
    assert seen["python"] == seen[f"port {port}"] == "ok"
    assert report["well"] is (ran.returncode == 0) is ("wrong" not in seen.values())


def test_a_port_in_use_is_wrong_and_names_its_owner():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = doctor.serving_port(taken.getsockname()[1], None)
    assert found.state == "wrong"
    assert f"(pid {os.getpid()})" in found.found
    assert found.mend


def test_each_thing_that_is_wrong_comes_with_its_mend():
    for found in (doctor.python((3, 9, 2)), doctor.libgomp("libnothing.so.1")):
        assert found.state == "wrong"
        assert found.mend


async def test_a_store_that_does_not_answer_is_wrong(tmp_path):
    found = await doctor.store(tmp_path, f"unix://{tmp_path}/nothing.sock")
    assert (found.state, bool(found.mend)) == ("wrong", True)


def a_run(data_dir: Path, *rows: tuple[int, float, str]) -> None:
    processes = [{"pid": pid, "create_time": at, "what": what} for pid, at, what in rows]
    (data_dir / "run.json").write_text(json.dumps({"port": 8000, "processes": processes}))


def test_what_a_killed_run_left_is_found_by_pid_and_start_and_nothing_else_is(tmp_path):
    me = psutil.Process()
    gone, mine, reused = (2**22 - 3, 1.0, "kairos"), (me.pid, me.create_time(), "haproxy"), (me.pid, 1.0, "valkey")
    a_run(tmp_path, gone, mine, reused)
    (found,) = doctor.stale_processes(running.read_run(tmp_path), tmp_path)
    assert found.state == "wrong"
    assert f"haproxy ({me.pid})" in found.found
    assert "valkey" not in found.found
    a_run(tmp_path, mine, gone)
    (alive,) = doctor.stale_processes(running.read_run(tmp_path), tmp_path)
    assert alive.state == "ok"


def test_a_broken_record_of_a_run_is_no_record(tmp_path):
    for text in ("", "[]", '{"processes": 3}', '{"processes": [{}]}'):
        (tmp_path / "run.json").write_text(text)
        assert running.read_run(tmp_path) is None


def test_every_port_of_a_running_kairos_is_listed_with_its_address(tmp_path):
    me = psutil.Process()
    a_run(tmp_path, (me.pid, me.create_time(), "kairos"))
    run = running.read_run(tmp_path)
    with socket.socket() as inside, socket.socket() as outside:
        inside.bind(("127.0.0.1", 0))
        outside.bind(("0.0.0.0", 0))
        inside.listen()
        outside.listen()
        found = {port: loopback for port, _, _, loopback in doctor_running.listening(run)}
        assert found[inside.getsockname()[1]] is True
        assert found[outside.getsockname()[1]] is False
        assert doctor.serving_port(inside.getsockname()[1], run).state == "ok"
        states = {asdict(one)["state"] for one in doctor.open_ports(run)}
    assert states == {"ok", "note"}


def test_every_command_can_be_loaded():
    for name in COMMANDS:
        assert load(name) is not None
    assert cli.COMMANDS.keys() >= {"up", "demo", "replay", "train", "validate", "explain", "keys", "doctor"}


def test_a_mend_that_many_findings_share_is_told_once(monkeypatch, capsys):
    shared = [doctor.Finding("listens", "note", f"0.0.0.0:{port} raylet", "a firewall") for port in (1, 2, 3)]

    async def examine(*_: object) -> list[doctor.Finding]:
        return [doctor.Finding("python", "wrong", "3.9.2", "install another"), *shared]

    monkeypatch.setattr("serving.cli.doctor.examine", examine)
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("a firewall") == 1
    assert "install another" in shown
    assert shown.endswith("1 to mend\n")
