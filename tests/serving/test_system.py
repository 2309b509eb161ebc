"""The whole system, really running: started, used, killed in parts and as a whole, stopped and started again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serving.settings import is_loopback
from tests.serving.running import Running, until

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(400)]

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Safari/604.1"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kairos") / ".kairos"


@pytest.fixture(scope="module")
def kairos(data_dir: Path) -> Iterator[Running]:
    running = Running(data_dir, "--shards", "2").wait_ready()
    yield running
    if running.process.poll() is None:
        running.end()


def test_ready_means_that_it_answers(kairos: Running) -> None:
    assert kairos.lines.count(f"ready {kairos.url}") == 1
    assert kairos.http.get("/readyz").json()["shards"] == {"0": True, "1": True}


def test_starting_prints_no_warning(kairos: Running) -> None:
    assert not [line for line in kairos.lines if "warn" in line.lower() or "INFO" in line or "Traceback" in line]


def test_every_process_of_a_run_listens_on_loopback_only(kairos: Running) -> None:
    listening = [
        (process.name(), connection.laddr)
        for process in kairos.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    names = {name for name, _ in listening}
    assert {"haproxy", "raylet", "gcs_server"} <= names
    assert not [row for row in listening if not is_loopback(row[1].ip)]


def test_a_run_is_one_session_so_that_the_trainers_idle_class_holds_against_all_of_it(kairos: Running) -> None:
    pids = [process.pid for process in kairos.processes()]
    assert {os.getsid(pid) for pid in pids} == {os.getsid(kairos.process.pid)}
    # Ctrl-C in a terminal is for `kairos up`, which ends these two when it is time.
    apart = [p.pid for p in kairos.processes() if any(name in p.name() for name in ("haproxy", "valkey"))]
    assert len(apart) == 2
    assert os.getpgid(kairos.process.pid) not in {os.getpgid(pid) for pid in apart}


def test_scrolling_changes_the_decision(kairos: Running) -> None:
    who = {"anonymousId": "scroller", "context": {"userAgent": IPHONE}}
    before = kairos.decide(**who)
    reply = kairos.batch(
        {"type": "page", "anonymousId": "scroller", "messageId": "s1", "properties": {"url": "/p", "height_px": 2000}},
        kairos.event("scroller", "s2", "Product Added", product_id="p1", price=80, currency="EUR"),
        kairos.event("scroller", "s3", "Scroll Depth", scroll_share=0.9),
        kairos.event("scroller", "s4", "Heartbeat", time_on_page_s=40),
    )
    assert reply.json() == {"success": True, "accepted": 4, "duplicates": 0, "rejected": []}
    after = kairos.decide(**who, explain=True)
    assert before["segments"] == []
    assert "high_intent" in after["segments"]
    assert after["recorded"] is True
    assert after["explain"]["segments"]


def test_a_shard_killed_under_load_loses_nothing_and_counts_nothing_twice(kairos: Running) -> None:
    names = [f"load-{i}" for i in range(20)]
    acknowledged: dict[str, set[str]] = {name: set() for name in names}
    decisions: list[dict[str, Any]] = []
    stop = threading.Event()

    def send() -> None:
        n = 0
        with httpx.Client(base_url=kairos.url, timeout=20.0, trust_env=False) as http:
            while not stop.is_set():
                name, message = names[n % len(names)], f"load-{n}"
                n += 1
                body = {"batch": [kairos.event(name, message)]}
                while True:
                    reply = http.post("/v1/batch", json=body)
                    if reply.status_code == 200:
                        acknowledged[name].add(message)
                        break
                    assert reply.status_code == 503, reply.text

    def ask() -> None:
        n = 0
        with httpx.Client(base_url=kairos.url, timeout=20.0, trust_env=False) as http:
            while not stop.is_set():
                n += 1
                body = {"placement": "product_page", "anonymousId": names[n % len(names)], "base": [{"id": "t1"}]}
                reply = http.post("/v1/decide", json=body)
                assert reply.status_code == 200, reply.text
                decisions.append(reply.json())

    threads = [threading.Thread(target=work) for work in (send, ask)]
    for thread in threads:
        thread.start()
    until(lambda: sum(map(len, acknowledged.values())) > 100)
    victim = kairos.shards()[0]
    victim.kill()
    victim.wait(10)
    until(lambda: any(d["degraded"] for d in decisions))
    degraded_at = len(decisions)
    until(lambda: any(not d["degraded"] for d in decisions[degraded_at:]))
    until(lambda: len(decisions) > 150 and all(not d["degraded"] for d in decisions[-50:]), within_s=60)
    stop.set()
    for thread in threads:
        thread.join()
    reasons = {d["degraded"]["reason"] for d in decisions if d["degraded"]}
    assert reasons <= {"SHARD_UNAVAILABLE", "DEADLINE"}
    for name in names:
        assert kairos.profile(f"anon:{name}")["n_signals"] == len(acknowledged[name])


def test_a_shard_that_hangs_is_started_anew(kairos: Running) -> None:
    kairos.batch(kairos.event("patient", "p1"))
    for victim in kairos.shards():
        victim.suspend()
    assert kairos.decide(anonymousId="patient")["degraded"]["rung"] == "tier1"
    until(lambda: kairos.decide(anonymousId="patient")["degraded"] is None, within_s=90)
    assert kairos.profile("anon:patient")["n_signals"] == 1
    assert any("was started anew" in line for line in kairos.lines)


def test_a_new_book_is_in_force_at_once_and_earlier_decisions_replay_identically(kairos: Running) -> None:
    decision = kairos.decide(anonymousId="scroller", context={"userAgent": IPHONE})["decisionId"]
    in_force = kairos.http.get("/v1/campaigns").json()
    book = in_force["book"]
    book["campaigns"]["cart_recovery"]["placements"].append("elsewhere")
    version = kairos.http.put("/v1/campaigns", json=book).json()["version"]
    assert version != in_force["version"]
    assert kairos.post("/v1/decide", {"anonymousId": "x", "placement": "elsewhere"}).status_code == 200
    assert kairos.http.get(f"/v1/decisions/{decision}", params={"replay": "true"}).json()["identical"] is True
    back = kairos.post("/v1/campaigns/rollback", {"version": in_force["version"]})
    assert back.status_code == 200
    assert kairos.post("/v1/decide", {"anonymousId": "x", "placement": "elsewhere"}).status_code == 404


def alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_stopped_started_and_killed_with_other_numbers_of_shards_the_profiles_are_the_same(
    kairos: Running, data_dir: Path
) -> None:
    kairos.post("/v1/identify", {"anonymousId": "scroller", "userId": "ada", "messageId": "i1"})
    names = ["user:ada", "anon:scroller", *(f"anon:load-{i}" for i in range(20))]
    volatile = ("recency", "age_s", "decayed", "hover", "gap_days")

    def state(running: Running) -> dict[str, Any]:
        found = {}
        for name in names:
            profile = running.profile(name)
            profile["features"] = {
                k: v for k, v in profile["features"].items() if not any(part in k for part in volatile)
            }
            found[name] = profile
        return found

    decision = kairos.decide(anonymousId="scroller", context={"userAgent": IPHONE})["decisionId"]
    before, processes = state(kairos), kairos.processes()
    assert kairos.end(signal.SIGINT) == 0
    assert not [p for p in processes if alive(p)]

    second = Running(data_dir, "--shards", "5").wait_ready()
    assert state(second) == before
    assert second.http.get(f"/v1/decisions/{decision}", params={"replay": "true"}).json()["identical"] is True
    assert second.batch(second.event("load-0", "load-0")).json()["duplicates"] == 1
    left = second.processes()
    serving = [p for p in left if p.name() == "haproxy" or p.name().startswith(("ray::Serve", "ray::Shard"))]
    assert len(serving) >= 8
    second.end(signal.SIGKILL)
    # What serves ends with its run; a HAProxy left behind would hold the port and answer with old routes.
    until(lambda: not any(alive(p) for p in serving))

    third = Running(data_dir, "--shards", "1").wait_ready()
    try:
        assert state(third) == before
        assert not [p for p in left if alive(p)]
    finally:
        assert third.end(signal.SIGTERM) == 0
    assert not [line for line in third.lines if "SIGTERM" in line]
