"""Kairos and those it is measured against, each started alone, warmed, and ended by pid."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx
import orjson
import psutil

from actors.embedded import EmbeddedStore
from actors.valkey_client import connect
from serving.running import running_store
from tests.bench import shop
from tests.bench.load import drive
from tests.serving.running import ROOT, Running, free_port
from training.fit import Model

START_WITHIN_S = 90.0
WARM_S = 2.0


class Competitor(Protocol):
    """Something that answers `url`; a context manager that leaves nothing running and no files."""

    name: str
    url: str
    directory: Path

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kairos-bench-"))
        self.url = ""

    def __enter__(self) -> Any:
        try:
            self.start()
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.leave()

    def start(self) -> None:
        """Returns when it answers."""
        ...

    def stop(self) -> None:
        """End it; nothing happens where it does not run."""
        ...

    def processes(self) -> list[psutil.Process]:
        """All that run for it now."""
        ...

    def leave(self) -> None:
        """Stop, and end by pid whatever is still there."""
        left: list[psutil.Process] = []
        with suppress(psutil.Error):
            left = self.processes()
        try:
            self.stop()
        finally:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=10.0)
            shutil.rmtree(self.directory, ignore_errors=True)

    def warm(self) -> None:
        """Some seconds of the reference request, not measured."""
        drive(self.url, shop.decide_bodies(shop.visitors()), 32, WARM_S)

    def parts(self) -> dict[str, list[psutil.Process]]:
        """The processes by what they do."""
        found: dict[str, list[psutil.Process]] = {}
        for process in self.processes():
            with suppress(psutil.Error):
                found.setdefault(part_of(process), []).append(process)
        return found


def part_of(process: psutil.Process) -> str:
    """What a process of Kairos or of a competitor is for."""
    name, line = process.name(), " ".join(process.cmdline())
    if "haproxy" in name:
        return "haproxy"
    if "valkey" in name or "redis" in name:
        return "store"
    if "ShardActor" in line:
        return "shards"
    if "ServeReplica" in line:
        return "ingress"
    if "TrainerActor" in line:
        return "trainer"
    if "RolloutActor" in line:
        return "rollouts"
    return "rest"


def cpu_s(parts: dict[str, list[psutil.Process]]) -> dict[str, float]:
    """CPU seconds that each part has used so far."""
    used = {}
    for part, processes in parts.items():
        used[part] = 0.0
        for process in processes:
            with suppress(psutil.Error):
                times = process.cpu_times()
                used[part] += times.user + times.system
    return used


def subtract(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """What each part has used in between."""
    return {part: after[part] - before.get(part, 0.0) for part in after}


class Kairos(Competitor):
    """A real `kairos up` with the reference book and model, its visitors warm."""

    name = "kairos"

    def __init__(self, model: Model | None, *options: str, n_warm: int = shop.N_WARM, **env: str) -> None:
        super().__init__()
        self._model, self._options, self._n_warm, self._env = model, options, n_warm, env
        self.running: Running | None = None
        self.said: list[tuple[float, str]] = []
        self.first_decision_s = 0.0

    def start(self) -> None:
        book = self.directory / "book.yaml"
        book.write_text(shop.BOOK, encoding="utf-8")
        began = time.monotonic()
        self.running = Running(self.directory / "data", "--book", str(book), *self._options, env=self._env)
        self._note_times(began)
        self.running.wait_ready()
        self.url = f"{self.running.url}/v1/decide"
        self.running.decide(anonymousId="first")
        self.first_decision_s = time.monotonic() - began
        if self._model is not None:
            version = shop.publish(self._model, self.store)
            self._await_model(version)
        names = shop.visitors(self._n_warm)
        for at in range(0, len(names), 50):
            events = [event for name in names[at : at + 50] for event in shop.visit(name)]
            self.observe(events)

    def _note_times(self, began: float) -> None:
        """Hear the lines of progress as they come, each with its time."""
        running = self.running
        assert running is not None

        def hear() -> None:
            n = 0
            while not running.lines or not running.lines[-1].startswith("ready "):
                if running.process.poll() is not None:
                    return
                while n < len(running.lines):
                    self.said.append((time.monotonic() - began, running.lines[n]))
                    n += 1
                time.sleep(0.01)
            self.said.extend((time.monotonic() - began, line) for line in running.lines[n:])

        threading.Thread(target=hear, daemon=True).start()

    def again(self) -> None:
        """Stop and start on the same data."""
        self.stop()
        self.said.clear()
        self.start()

    def _await_model(self, version: str, within_s: float = 20.0) -> None:
        """Until every shard decides with the model: visitors enough that each has some."""
        assert self.running is not None
        give_up_s = time.monotonic() + within_s
        while True:
            seen = {str(self.running.decide(anonymousId=f"probe-{i}")["model"]["version"]) for i in range(64)}
            if seen == {version}:
                return
            if time.monotonic() > give_up_s:
                raise RuntimeError(f"decisions are made with {', '.join(sorted(seen))}, not with {version}")
            time.sleep(0.05)

    @property
    def store(self) -> str:
        """The address of its embedded store."""
        found = running_store(self.directory / "data")
        assert found is not None
        return found

    def observe(self, events: list[dict[str, Any]], path: str = "/v1/batch") -> None:
        """Send events; raises unless every one was taken."""
        assert self.running is not None
        reply = self.running.post(path, {"batch": events})
        if reply.status_code != 200 or reply.json()["rejected"]:
            raise RuntimeError(f"events were not taken: {reply.text[:300]}")

    def accepted(self) -> float:
        """Events that Kairos has counted as accepted."""
        assert self.running is not None
        for line in self.running.http.get("/metrics").text.splitlines():
            if line.startswith('kairos_events_total{result="accepted"}'):
                return float(line.rpartition(" ")[2])
        return 0.0

    def rungs(self) -> dict[str, float]:
        """Decisions so far by the rung that made them, and those that were overtaken by their deadline."""
        assert self.running is not None
        found: dict[str, float] = {}
        for line in self.running.http.get("/metrics").text.splitlines():
            if line.startswith("kairos_decisions_total{") or line.startswith("kairos_decisions_superseded_total"):
                head, _, value = line.rpartition(" ")
                name = head.partition('rung="')[2].rstrip('"}') or "superseded"
                found[name] = float(value)
        return found

    def processes(self) -> list[psutil.Process]:
        return self.running.processes() if self.running is not None else []

    def stop(self) -> None:
        if self.running is not None and self.running.process.poll() is None:
            self.running.end()


class NoOp(Competitor):
    """Competitor (a)."""

    name = "no-op"

    def __init__(self) -> None:
        super().__init__()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/v1/decide"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.noop", str(port), str(self.directory)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, process_group=0,
        )  # fmt: skip
        assert self._process.stdout is not None
        if "ready" not in self._process.stdout.readline():
            raise RuntimeError("the no-op deployment did not start")

    def processes(self) -> list[psutil.Process]:
        return _tree(self._process)

    def stop(self) -> None:
        _interrupt(self._process)


class HandMade(Competitor):
    """Competitor (b), on a Valkey of its own with `appendfsync everysec`."""

    name = "hand-written"

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self._process: subprocess.Popen[bytes] | None = None
        self._store = EmbeddedStore(self.directory)

    def start(self) -> None:
        asyncio.run(self._open_store())
        file = self.directory / "model.txt"
        file.write_bytes(self._model.blob)
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        self.url = f"{base}/v1/decide"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--factory", "tests.bench.handmade:build", "--workers", "2",
             "--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools",
             "--no-access-log", "--log-level", "error"],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0,
            env={**os.environ, "BENCH_STORE": self._store.url, "BENCH_MODEL": str(file), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        give_up_s = time.monotonic() + START_WITHIN_S
        body = shop.decide_bodies(shop.visitors(1))[0]
        with httpx.Client(trust_env=False, timeout=2.0) as http:
            while True:
                with suppress(httpx.HTTPError):
                    if http.post(self.url, content=body).status_code == 200:
                        return
                if time.monotonic() > give_up_s or self._process.poll() is not None:
                    raise RuntimeError("the hand-written service did not start")
                time.sleep(0.05)

    async def _open_store(self) -> None:
        await self._store.start()
        client = connect(self._store.url)
        await client.config_set("appendfsync", "everysec")
        now_ms = time.time_ns() // 1_000_000
        features = {
            "scroll_px": 1700.0, "scroll_share": 0.6, "scroll_px_max": 2560.0, "scroll_share_max": 0.8,
            "time_on_page_s": 35.0, "session_time_s": 35.0, "n_clicks": 0.0, "n_pages": 1.0, "n_products_viewed": 2.0,
            "cart_value": 79.0, "n_cart_items": 1.0, "n_sessions": 1.0,
        }  # fmt: skip
        session = {"f": features, "first_ms": now_ms, "last_ms": now_ms, "served": {}, "last": None}
        await client.mset({f"session:{name}": orjson.dumps(session) for name in shop.visitors()})
        await client.aclose()

    def processes(self) -> list[psutil.Process]:
        found = _tree(self._process)
        if self._store.pid is not None:
            with suppress(psutil.Error):
                found.append(psutil.Process(self._store.pid))
        return found

    def stop(self) -> None:
        _interrupt(self._process)
        asyncio.run(self._store.stop())


def _tree(process: subprocess.Popen[Any] | None) -> list[psutil.Process]:
    if process is None:
        return []
    with suppress(psutil.Error):
        own = psutil.Process(process.pid)
        return [own, *own.children(recursive=True)]
    return []


def _interrupt(process: subprocess.Popen[Any] | None) -> None:
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10.0)
    if process.stdout is not None:
        process.stdout.close()
