"""A real Kairos under load while models and books come, are tried, promoted and rolled back; then parts of it die."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from typing import Any

import httpx
import psutil
import pytest

from actors.valkey import valkey_stores
from serving.running import store_address
from tests.bench import shop
from tests.serving.running import PATIENT, Running, until
from training.fit import Model, fit
from training.registry import Registry
from training.table import Table

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(400)]

BOOK = files("serving").joinpath("samples", "cart_recovery.yaml").read_text("utf-8")
MANY = 100_000_000
SETTINGS = {
    "KAIROS_TRAINING__ENABLED": "false", "KAIROS_ROLLOUT__SHARES": "[0.0, 0.5]",
    "KAIROS_ROLLOUT__MINIMUM_S": "[1, 1]", "KAIROS_ROLLOUT__HORIZON_S": f"[{MANY}, {MANY}]",
    "KAIROS_ROLLOUT__MINIMUM_USERS": f"[{MANY}, {MANY}]",
    **PATIENT,
}  # fmt: skip
"""Nothing ends by itself here: the verbs of people are under test."""


class Load:
    """Visitors who ask for decisions one after another, a few at a time, and write down what they got."""

    def __init__(self, url: str) -> None:
        self._url, self._over = url, threading.Event()
        self.seen: list[tuple[int, Any, str, str]] = []
        self._threads = [threading.Thread(target=self._visit, args=(n,)) for n in range(3)]

    def _visit(self, n: int) -> None:
        with httpx.Client(base_url=self._url, timeout=10.0, trust_env=False) as client:
            i = 0
            while not self._over.wait(0.01):
                i += 1
                request = {"anonymousId": f"load-{n}-{i % 400}", "placement": "product_page", "context": shop.CONTEXT}
                reply = client.post("/v1/decide", json=request)
                told = reply.json() if reply.status_code == 200 else {}
                model = told.get("model") or {}
                self.seen.append(
                    (
                        reply.status_code,
                        (told.get("degraded") or {}).get("reason"),
                        model.get("version", ""),
                        model.get("arm", ""),
                    )
                )

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def sees(self, version: str, arm: str = "champion") -> None:
        """Wait until somebody was decided so from now on."""
        start = len(self.seen)
        until(lambda: any(one[2:] == (version, arm) for one in self.seen[start:]))


@pytest.fixture(scope="module")
def kairos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("kairos") / ".kairos", "--shards", "2", env=SETTINGS).wait_ready()
    yield running
    if running.process.poll() is None:
        running.end()


@pytest.fixture(scope="module")
def models(kairos: Running) -> list[str]:
    """Two models that are kept, and not in force."""

    async def keep(some: list[Model]) -> list[str]:
        stores = valkey_stores(store_address(None, kairos.data_dir))
        versions = [await Registry(stores.versions).add(one) for one in some]
        await stores.close()
        return versions

    first = shop.model()
    table = shop.table()
    assert isinstance(table, Table)
    return asyncio.run(keep([first, fit(table, seed=6)]))


def act(kairos: Running, rollout: str, verb: str) -> float:
    began = time.perf_counter()
    reply = kairos.post(f"/v1/rollouts/{rollout}/{verb}", {"by": "ann"})
    assert reply.status_code == 200, reply.text
    return time.perf_counter() - began


def started(reply: httpx.Response) -> str:
    assert reply.status_code == 202, reply.text
    body = reply.json()
    return str(body.get("rollout", body)["id"])


def arms(kairos: Running, n: int = 60) -> Counter[str]:
    return Counter(kairos.decide(anonymousId=f"arm-{i}")["model"]["arm"] for i in range(n))


def actors(kairos: Running, kind: str) -> dict[int, psutil.Process]:
    """The processes of actors of a kind, by pid."""
    found = {}
    for process in kairos.processes():
        with suppress(psutil.Error):
            if any(kind in part for part in process.cmdline()):
                found[process.pid] = process
    return found


def kill_one(kairos: Running, kind: str, n: int) -> None:
    """Kill one of n, and wait until there are n again without it."""
    pid, process = next(iter(actors(kairos, kind).items()))
    process.kill()
    until(lambda: pid not in (now := actors(kairos, kind)) and len(now) == n, 60.0)


def put_book(kairos: Running, book: str, query: str = "") -> httpx.Response:
    return kairos.http.put(f"/v1/campaigns{query}", content=book, headers={"content-type": "text/yaml"})


def test_no_decision_fails_or_is_degraded_while_models_and_books_come_and_go(
    kairos: Running, models: list[str]
) -> None:
    took: list[float] = []
    with Load(kairos.url) as load:
        load.sees("prior-1")
        first = started(kairos.post("/v1/rollouts", {"version": models[0]}))
        act(kairos, first, "promote")
        load.sees(models[0])
        second = started(kairos.post("/v1/rollouts", {"version": models[1]}))
        took.append(act(kairos, second, "rollback"))
        for n in range(3):
            book = f"{BOOK}\n# {n}\n".replace("priority: 10", f"priority: {11 + n}")
            tried = started(put_book(kairos, book, "?canary=0.5"))
            load.sees(models[0], "challenger")
            took.append(act(kairos, tried, "rollback"))
            # Whoever asks after the verb has returned gets the champion, at every shard.
            assert arms(kairos) == {"champion": 60}
        third = started(kairos.post("/v1/rollouts", {"version": models[1]}))
        act(kairos, third, "promote")
        load.sees(models[1])
        whole = put_book(kairos, book)
        assert whole.status_code == 200, whole.text
        load.sees(models[1])
    assert {one[:2] for one in load.seen} == {(200, None)}
    assert len(load.seen) > 200
    assert max(took) < 2.0
    audit = kairos.http.get("/v1/rollouts").json()["audit"]
    assert {line["by"] for line in audit} == {"ann", "api", "kairos"}
    assert Counter(line["what"].split(" ")[0] for line in audit)["rolled_back"] == 4


def test_a_killed_watcher_and_a_killed_shard_go_on_in_the_middle_of_a_stage(kairos: Running) -> None:
    book = BOOK.replace("priority: 10", "priority: 30")
    tried = started(put_book(kairos, book, "?canary=0.5"))
    before = arms(kairos)
    assert set(before) == {"champion", "challenger"}
    until(lambda: len(actors(kairos, "RolloutActor")) == 1)
    kill_one(kairos, "RolloutActor", 1)
    kill_one(kairos, "ShardActor", 2)
    until(lambda: kairos.http.get("/readyz").status_code == 200, 60.0)
    assert arms(kairos) == before, "everybody keeps their arm"
    status = kairos.http.get("/v1/rollouts").json()
    assert (status["running"]["id"], status["running"]["stage"]) == (tried, "canary 50 %")
    act(kairos, tried, "rollback")
    assert arms(kairos) == {"champion": 60}
