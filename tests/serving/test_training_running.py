"""The loop in a real `kairos up`: visitors, labels, a job of Ray's, a killed trainer; nobody waits for any of it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.bench.shop import CONTEXT
from tests.serving.running import PATIENT, Running, until

BOOK = """\
campaigns:
  quick:
    placements: [product_page]
    conversion: {event: Order Completed, within: 1s}
    offers: {free: {content: {headline: Free}, value: 30, cost: 1}}
"""
ENV = {
    "KAIROS_TRAINING__GRACE_S": "0", "KAIROS_TRAINING__FIRST_ROWS": "100000", "KAIROS_TRAINING__FEWEST_ROWS": "200",
    "KAIROS_TRAINING__CHURN": "false", "KAIROS_TRAINING__TICK_S": "0.2", "KAIROS_TRAINING__READ_S": "0.2",
}  # fmt: skip
N = 350

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def visits(up: Running) -> None:
    """Visitors who buy the sooner the deeper they have read."""
    dice = random.Random(1)
    for start in range(0, N, 50):
        share = {f"v{i}": dice.random() for i in range(start, start + 50)}
        up.batch(*(with_context(up.event(v, f"m-{v}", "Scroll Depth", scroll_share=s)) for v, s in share.items()))
        for visitor in share:
            up.decide(anonymousId=visitor, context=CONTEXT)
        bought = [v for v, s in share.items() if dice.random() < 0.05 + 0.6 * s]
        up.batch(*(with_context(up.event(v, f"o-{v}", "Order Completed", order_id=v, revenue=40)) for v in bought))


def with_context(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "context": CONTEXT}


def trainer_of(up: Running) -> psutil.Process:
    [found] = [p for p in up.processes() if any("TrainerActor" in part for part in p.cmdline())]
    return found


def told(up: Running) -> dict[str, Any]:
    return up.http.get("/v1/train").json()["trainer"] or {"rows": 0, "pid": 0}


@pytest.mark.timeout(180)
def test_a_job_of_ray_trains_and_a_killed_trainer_comes_back_while_visitors_are_answered(tmp_path: Path) -> None:
    book = tmp_path / "book.yaml"
    book.write_text(BOOK, "utf-8")
    up = Running(tmp_path / "data", "--book", str(book), "--dashboard", env=ENV | PATIENT).wait_ready()
    try:
        visits(up)
        until(lambda: told(up)["rows"] >= N - 5, 60)
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "data" / "ray.token")}
        submit = [
            str(Path(sys.executable).with_name("ray")),
            "job",
            "submit",
            "--address",
            "http://127.0.0.1:8265",
            "--",
        ]
        job = subprocess.run(
            [*submit, sys.executable, "-m", "actors.retrain", "--data-dir", str(tmp_path / "data")],
            env={**os.environ, **token}, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        assert job.returncode == 0, job.stdout + job.stderr
        done = next(json.loads(line) for line in job.stdout.splitlines() if line.startswith('{"id"'))
        run = up.http.get("/v1/train/t1").json()
        assert (run["why"], run["state"], run["candidate"]) == ("job", "submitted", done["candidate"])
        assert up.decide(anonymousId="somebody")["model"]["version"] == "prior-1"

        victim = trainer_of(up)
        assert victim.nice() == 19
        victim.kill()
        asked = up.post("/v1/train", {"recipe": "retrain"})
        assert asked.status_code == 202
        assert up.decide(anonymousId="meanwhile")["degraded"] is None
        until(lambda: up.http.get("/v1/train/t2").json()["state"] not in ("queued", "running"), 60)
        again = up.http.get("/v1/train/t2").json()
        # The same rows and seed are the same model, in another process.
        assert (again["state"], again["reason"]) == ("refused", "already_submitted")
        assert done["candidate"] in again["message"]
        assert told(up)["pid"] == trainer_of(up).pid != victim.pid
    finally:
        assert up.end() == 0
