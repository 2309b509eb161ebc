"""What Ray, Serve and HAProxy are told before they start, and the stand-in that starts HAProxy."""

import asyncio
import os
import runpy
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil
import pytest

from actors.datalock import DataLock
from engine.errors import Conflict
from serving.processes import RunRecord
from serving.ray_environment import free_ports, haproxy_binary, serve_environment, token_file
from serving.system import System
from serving.up_options import UpOptions
from tests.serving.running import until

ASSETS = Path(__file__).parents[2] / "serving" / "assets"
TIED = ASSETS / "haproxy-tied.sh"

PARENT = """
import subprocess, sys, time
print(subprocess.Popen(sys.argv[1:]).pid, flush=True)
time.sleep(60)
"""
SERVES = """
defaults
    mode http
frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind *:8404
"""


def test_the_pages_of_haproxy_leave_every_address_and_the_front_stays(tmp_path: Path) -> None:
    mended = runpy.run_path(str(ASSETS / "haproxy_tied.py"))["mended"](SERVES, tmp_path)
    binds = [line.strip() for line in mended.splitlines() if line.strip().startswith("bind")]
    assert binds == [
        f"bind {tmp_path}/9101.sock mode 600",
        "bind 127.0.0.1:8000",
        f"bind {tmp_path}/8404.sock mode 600",
    ]


def test_requests_are_told_to_no_log(tmp_path: Path) -> None:
    logs = "global\n    log 127.0.0.1:514 local0 info\ndefaults\n    log global\n    option httplog\n    mode http\n"
    mended = runpy.run_path(str(ASSETS / "haproxy_tied.py"))["mended"](logs, tmp_path)
    assert "log" not in mended
    assert mended.startswith("global\ndefaults\n")
    assert mended.endswith("    mode http\n")


def test_the_template_of_serve_binds_its_pages_as_the_stand_in_expects() -> None:
    found = find_spec("ray")  # read, not imported: Ray takes a second and changes the process
    assert found is not None
    assert found.submodule_search_locations
    source = Path(found.submodule_search_locations[0]) / "serve" / "_private" / "haproxy_templates.py"
    template = source.read_text()
    assert "    bind :{{ config.metrics_port }}\n" in template
    assert "  bind *:{{ config.stats_port }}\n" in template
    assert "    errorfile 503 {{ config.error_file_path }}\n" in template
    assert "    log {{ config.log_target }} local0 info\n" in template
    assert "http-request return status 404 content-type text/plain lf-string" in template


DEAD = """defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
    errorfile 503 /nowhere/500.http
frontend http_frontend
    bind 127.0.0.1:{port}
    use_backend dead if {{ path_beg /dead }}
    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path \\'%[path]\\' not found. Ping http://..."
backend dead
    server gone 127.0.0.1:{gone}
"""


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[int]:
    """The port of a HAProxy, started as Serve starts it, behind which nobody answers."""
    binary = haproxy_binary()
    if binary is None:
        pytest.skip("no HAProxy for this platform")
    port, gone = free_ports(2)
    config = tmp_path / "haproxy.cfg"
    config.write_text(DEAD.format(port=port, gone=gone))
    env = {**os.environ, "KAIROS_PYTHON": sys.executable, "KAIROS_HAPROXY_BINARY": binary,
           "KAIROS_RUN_DIR": str(tmp_path / "run")}  # fmt: skip
    process = subprocess.Popen([str(TIED), "-db", "-f", str(config)], env=env)
    until(lambda: _connects(port))
    yield port
    process.kill()
    process.wait(10)


def _connects(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("path", ["/dead", "/unrouted"])
def test_where_nobody_is_behind_haproxy_it_says_so_in_a_problem_document(alone: int, path: str) -> None:
    reply = httpx.get(f"http://127.0.0.1:{alone}{path}", trust_env=False)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.headers["content-type"] == "application/problem+json"
    told = reply.json()
    assert (told["status"], told["code"]) == (503, "no_ingress")
    assert told["message"] == told["detail"] != ""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_stand_in_becomes_haproxy_writes_its_pid_down_and_dies_with_its_parent(tmp_path: Path) -> None:
    # A parent that starts the stand-in, says which pid it has, and is killed.
    parent = subprocess.Popen(
        [
            sys.executable, "-c", PARENT,
            str(TIED), "60",
        ],
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "KAIROS_PYTHON": sys.executable, "KAIROS_HAPROXY_BINARY": "/bin/sleep",
             "KAIROS_RUN_DIR": str(tmp_path / "run")},
    )  # fmt: skip
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    deadline = 500
    while child.name() != "sleep" and deadline:
        deadline -= 1
        os.sched_yield()
        subprocess.run(["/bin/true"], check=True)
    assert child.name() == "sleep"
    assert (tmp_path / "run" / "haproxy.pids").read_text() == f"{child.pid}\n"
    parent.kill()
    parent.communicate()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_the_stand_in_can_be_executed() -> None:
    assert TIED.stat().st_mode & stat.S_IXUSR


def test_a_ray_of_our_own_is_told_to_stay_on_loopback_and_a_joined_one_is_not(tmp_path: Path) -> None:
    alone = serve_environment(tmp_path, haproxy_binary(), alone=True)
    joined = serve_environment(tmp_path, haproxy_binary(), alone=False)
    assert alone["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in joined
    assert alone["RAY_AUTH_MODE"] == joined["RAY_AUTH_MODE"] == "token"
    assert alone["RAY_USAGE_STATS_ENABLED"] == joined["RAY_USAGE_STATS_ENABLED"] == "0"


def test_without_a_haproxy_serve_is_told_to_use_its_own_proxy(tmp_path: Path) -> None:
    env = serve_environment(tmp_path, None, alone=True)
    assert env["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert not any("HAPROXY" in name for name in env)


def test_free_ports_are_different_and_can_be_bound() -> None:
    ports = free_ports(3)
    assert len(set(ports)) == 3
    for port in ports:
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", port))


def test_the_token_is_made_once_and_read_by_nobody_else(tmp_path: Path) -> None:
    first = token_file(tmp_path).read_text()
    assert len(first) == 64
    assert token_file(tmp_path).read_text() == first
    assert stat.S_IMODE(token_file(tmp_path).stat().st_mode) == 0o600


async def _start(data_dir: Path) -> None:
    await System(UpOptions(data_dir=data_dir, environ={}), lambda _line: None).start()


def test_a_second_run_of_a_data_directory_is_refused_and_ends_nothing_of_the_first(tmp_path: Path) -> None:
    lock = DataLock(tmp_path)
    lock.acquire()
    worker = subprocess.Popen(["/bin/sleep", "60"])
    try:
        RunRecord(tmp_path, tmp_path / "run").note(8000)  # the first run: this process and its child
        with pytest.raises(Conflict, match="in use by process"):
            asyncio.run(_start(tmp_path))
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()
        lock.release()
