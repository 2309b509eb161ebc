"""A trainer that dies leaves the champion in force, and whoever comes after it does its work."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from actors.stores import Stores
from actors.valkey import stores_of
from actors.valkey_client import connect
from tests.actors.school import School

ROOT = Path(__file__).parents[2]
FOR_EVER = 100_000

pytestmark = pytest.mark.slow


@pytest.fixture
async def school(own_valkey: str) -> AsyncIterator[School]:
    client = connect(own_valkey)
    await client.flushall()
    stores: Stores = stores_of(client)
    yield await School(stores).open()
    await stores.close()


@contextmanager
def a_trainer(url: str, n_rounds: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.actors.trainer_process", url, str(n_rounds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


async def until_over(school: School, run_id: str) -> dict[str, object]:
    while (run := await school.runs.get(run_id))["state"] in ("queued", "running"):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return run


async def test_a_run_outlives_a_trainer_that_is_killed_in_it_and_one_that_kills_every_trainer_is_given_up(
    school: School, own_valkey: str
) -> None:
    run_id = await school.trainer.ask()
    with a_trainer(own_valkey, FOR_EVER) as process:
        await asyncio.wait_for(school.until_under_way(), 60)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    left = await school.runs.get(run_id)
    assert (left["state"], left["stage"], left["attempt"]) == ("running", "fitting", 1)
    assert await school.in_force() == "prior-1"
    assert await school.stores.versions.list("model") == []

    with a_trainer(own_valkey, 15):
        run = await asyncio.wait_for(until_over(school, run_id), 60)
        assert (run["state"], run["attempt"]) == ("kept", 2)
        assert [version for version, _ in await school.stores.versions.list("model")] == [run["candidate"]]

    deadly, _ = await school.runs.ask("request")
    assert await school.runs.change(deadly, "queued", state="running", owner="trainer", attempt=3)
    with a_trainer(own_valkey, 15):
        given_up = await asyncio.wait_for(until_over(school, deadly), 60)
    assert (given_up["state"], given_up["reason"]) == ("failed", "trainer_died")
    assert "what is in force stays" in str(given_up["message"])
    assert await school.in_force() == "prior-1"


async def test_the_trainer_stands_back_behind_everybody(school: School, own_valkey: str) -> None:
    with a_trainer(own_valkey, 15) as process:
        assert process.stdout is not None
        done = await asyncio.to_thread(process.stdout.readline)
        assert "nice 19" in done
        assert psutil.Process(process.pid).nice() == 19
        if sys.platform == "linux":
            assert "SCHED_IDLE" in done
            assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
