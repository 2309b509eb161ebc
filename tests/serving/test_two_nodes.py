"""Kairos on a Ray cluster of two nodes with a store of its own: shards on both, and nothing different to see."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from actors.embedded import EmbeddedStore
from serving.ray_environment import haproxy_binary, serve_environment
from tests.serving.running import PATIENT, ROOT, Running, free_port

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def store_url(tmp_path: Path) -> Iterator[str]:
    store = EmbeddedStore(tmp_path / "store")
    asyncio.run(store.start())
    yield store.url
    asyncio.run(store.stop())


@pytest.fixture
def cluster() -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    # Short, since sockets of HAProxy are in it.
    run_dir = Path(tempfile.mkdtemp(prefix="kairos-two-"))
    env = {
        **serve_environment(run_dir, haproxy_binary(), alone=False),
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Both nodes are this machine: the second node's proxy needs ports of its own.
        "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(free_port()),
    }
    nodes = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.two_nodes"],
        cwd=ROOT,
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert nodes.stdout is not None
    address = next(line.split()[1] for line in nodes.stdout if line.startswith("cluster "))
    yield nodes, {**env, "RAY_ADDRESS": address}
    processes = psutil.Process(nodes.pid).children(recursive=True)
    assert nodes.stdin is not None
    nodes.stdin.close()
    nodes.wait(60)
    nodes.stdout.close()
    for process in psutil.wait_procs(processes, timeout=10)[1]:
        process.kill()
    shutil.rmtree(run_dir, ignore_errors=True)


def test_shards_live_on_both_nodes_and_signals_reach_decisions(
    tmp_path: Path, store_url: str, cluster: tuple[subprocess.Popen[str], dict[str, str]]
) -> None:
    nodes, env = cluster
    places = {"REDIS_URL": store_url, "KAIROS_ARCHIVE__PLACE": str(tmp_path / "archive"), **PATIENT}
    kairos = Running(tmp_path / ".kairos", "--shards", "4", env={**env, **places}).wait_ready()
    try:
        shards = shards_of(nodes)
        assert len(shards) == 4
        assert len({shard.ppid() for shard in shards}) == 2
        for i in range(20):
            name = f"visitor-{i}"
            assert kairos.batch(kairos.event(name, f"m{i}", "Scroll Depth", scroll_share=0.9)).status_code == 200
            kairos.post("/v1/identify", {"anonymousId": name, "userId": f"user-{i % 5}", "messageId": f"i{i}"})
            decision = kairos.decide(anonymousId=name)
            assert (decision["recorded"], decision["degraded"]) == (True, None)
        assert len(kairos.profile("user:user-0")["identities"]) == 5
    finally:
        assert kairos.end() == 0


def test_a_start_after_a_kill_on_a_lasting_cluster_ends_what_was_left_and_loses_nothing(
    tmp_path: Path, store_url: str, cluster: tuple[subprocess.Popen[str], dict[str, str]]
) -> None:
    nodes, env = cluster
    places = {"REDIS_URL": store_url, "KAIROS_ARCHIVE__PLACE": str(tmp_path / "archive"), **PATIENT}
    killed = Running(tmp_path / ".kairos", "--shards", "2", env={**env, **places}).wait_ready()
    assert killed.batch(killed.event("ann", "m1", "Scroll Depth", scroll_share=0.9)).status_code == 200
    before = {shard.pid for shard in shards_of(nodes)}
    killed.end(signal.SIGKILL)
    options = {"env": {**env, **places}, "port": killed.port}
    kairos = Running(tmp_path / ".kairos", "--shards", "3", **options).wait_ready()
    try:
        after = {shard.pid for shard in shards_of(nodes)}
        assert len(after) == 3
        assert not after & before
        assert kairos.batch(kairos.event("ann", "m1", "Scroll Depth", scroll_share=0.9)).json()["duplicates"] == 1
    finally:
        assert kairos.end() == 0


def shards_of(nodes: subprocess.Popen[str]) -> list[psutil.Process]:
    """The shards' processes on the nodes."""
    return [
        process
        for process in psutil.Process(nodes.pid).children(recursive=True)
        if any("ShardActor" in part for part in process.cmdline())
    ]
