"""`kairos train` without a table asks the running Kairos, follows the run, and tells scripts by its exit code."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from serving import training_told
from serving.cli import main
from serving.training_told import told

GATE = {"gate": "log_loss", "verdict": "refused", "sentence": "log-loss 0.5 against the champion's 0.4", "value": 0.1}
RUN: dict[str, Any] = {
    "runId": "t3", "target": "conversion", "recipe": "retrain", "why": "request", "state": "submitted", "stage": None,
    "share": 1.0, "reason": None, "message": "rollout r1", "nRows": 1200, "champion": "prior-1",
    "candidate": "lgbm-abc", "findings": [GATE],
}  # fmt: skip


class Server:
    """A Kairos that answers from a list, one run after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *runs: dict[str, Any]) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.runs = list(runs)
        monkeypatch.setattr(httpx, "request", self.request)
        monkeypatch.setattr(training_told, "LOOK_EVERY_S", 0)

    def request(self, method: str, url: str, *, json: Any, headers: dict[str, str], timeout: float) -> httpx.Response:
        self.asked.append((method, url, json))
        self.headers = headers
        if method == "POST":
            return httpx.Response(202, json={"runId": "t3", "joined": False})
        return httpx.Response(200, json=self.runs.pop(0) if len(self.runs) > 1 else self.runs[0])


def test_a_run_is_asked_for_and_followed_to_its_end(monkeypatch, capsys):
    waiting = {**RUN, "state": "queued", "share": 0.0}
    under_way = {**RUN, "state": "running", "stage": "fitting", "share": 0.42}
    server = Server(monkeypatch, waiting, under_way, under_way, RUN)
    words = ["train", "--url", "http://h:1", "--key", "k", "--recipe", "retrain"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == ["queued 0%", "running fitting 42%"]
    assert "candidate   lgbm-abc" in said.out
    assert "gate        log_loss refused: log-loss 0.5" in said.out
    assert server.asked[0] == ("POST", "http://h:1/v1/train", {"target": "conversion", "recipe": "retrain"})
    assert server.asked[1][:2] == ("GET", "http://h:1/v1/train/t3")
    assert server.headers == {"Authorization": "Bearer k"}


def test_a_run_without_a_candidate_is_exit_code_1_with_its_reason(monkeypatch, capsys):
    refused = {
        **RUN,
        "state": "refused",
        "reason": "too_few_labels",
        "message": "12 rows",
        "candidate": None,
        "findings": [],
    }
    Server(monkeypatch, refused)
    assert main(["train"]) == 1
    assert "ended       refused: 12 rows (too_few_labels)" in capsys.readouterr().out


def test_json_is_the_run_and_without_waiting_its_id(monkeypatch, capsys):
    Server(monkeypatch, RUN)
    assert main(["train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == RUN
    assert main(["train", "--no-wait", "--target", "churn", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runId": "t3", "joined": False}


def test_what_the_server_refuses_and_a_server_that_is_not_there_are_one_clear_line(monkeypatch, capsys):
    body = {"code": "bad_recipe", "message": "recipe: found 'chain', expected retrain or refit"}
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(400, json=body))
    assert main(["train", "--recipe", "chain"]) == 2
    assert "expected retrain or refit (bad_recipe)" in capsys.readouterr().err

    def nobody(*_: object, **__: object) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(httpx, "request", nobody)
    assert main(["train"]) == 1
    assert "nobody answers" in capsys.readouterr().err


def test_a_run_is_told_without_what_it_never_had():
    bare = {**RUN, "recipe": None, "message": None, "nRows": None, "candidate": None, "findings": []}
    assert list(told(bare)) == ["training    t3: conversion, as seems best (request)", "ended       submitted"]
