"""A real Kairos for tests: `kairos up` as a subprocess, driven over HTTP, ended by signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
START_WITHIN_S = 120.0
PATIENT = {"KAIROS_DEADLINES__DECIDE_MS": "2000"}
"""For a test of something else than the deadline: a busy machine must not turn it into one."""


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


class Running:
    """One run of `kairos up`; `lines` is everything it printed so far."""

    def __init__(
        self, data_dir: Path, *options: str, env: dict[str, str] | None = None, port: int | None = None
    ) -> None:
        self.data_dir, self.port = data_dir, port or free_port()
        command = [sys.executable, "-m", "serving.cli", "up", "--port", str(self.port), "--data-dir", str(data_dir)]
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=10.0, trust_env=False)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("ready "):
                self._ready.set()
        self._ready.set()

    def wait_ready(self) -> Running:
        self._ready.wait(START_WITHIN_S)
        if not any(line.startswith("ready ") for line in self.lines):
            self.process.terminate()
            self.process.wait(60)
            raise AssertionError("\n".join(self.lines))
        return self

    def processes(self) -> list[psutil.Process]:
        """Every process of this run, HAProxy included."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def shards(self) -> list[psutil.Process]:
        """The processes of the shard actors."""
        return [p for p in self.processes() if any("ShardActor" in part for part in p.cmdline())]

    def end(self, number: int = signal.SIGINT, within_s: float = 60.0) -> int:
        """Send a signal to `kairos up` alone and wait for its end; returns its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(within_s)
        self._reader.join(5.0)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.http.close()
        return code

    # -- the contract ----------------------------------------------------------------------------------

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return self.http.post(path, json=body)

    def event(self, anonymous_id: str, message_id: str, name: str = "Clicked", **properties: Any) -> dict[str, Any]:
        return {
            "type": "track",
            "event": name,
            "anonymousId": anonymous_id,
            "messageId": message_id,
            "properties": properties,
        }

    def batch(self, *events: dict[str, Any]) -> httpx.Response:
        return self.post("/v1/batch", {"batch": list(events)})

    def decide(self, **who: Any) -> dict[str, Any]:
        reply = self.post("/v1/decide", {"placement": "product_page", **who})
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def profile(self, identity: str) -> dict[str, Any]:
        reply = self.http.get(f"/v1/profiles/{identity}")
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found


def until(condition: Any, within_s: float = 30.0) -> None:
    """Wait until a condition holds; what is waited for happens in another process and tells nobody."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s, "it did not come to pass in time"
        threading.Event().wait(0.02)
