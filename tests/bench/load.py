"""The load generator: wrk, an external program, with prepared bodies; its percentiles and errors as numbers."""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")
MARK = "measured "


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw: requests a second, latencies in ms, how many requests, and how many of them failed."""

    rps: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    n: int
    n_failed: int


def seconds() -> float:
    """How long each measurement lasts: `BENCH_SECONDS`."""
    return float(os.environ.get("BENCH_SECONDS", "4"))


def full() -> bool:
    """Whether what takes longer is wanted too: `FULL=1`."""
    return os.environ.get("FULL") == "1"


def need_wrk() -> None:
    """Ends the program with the package's name where wrk is missing."""
    if shutil.which("wrk") is None:
        sys.exit("error: the load generator `wrk` is not on the PATH. Debian, Ubuntu: apt-get install wrk")


def drive(
    url: str, bodies: Sequence[bytes], connections: int, lasting_s: float | None = None, delay_ms: int = 0
) -> Load:
    """POST the bodies in turn over so many connections; `delay_ms` is a pause of each connection between requests.

    Raises:
        RuntimeError: wrk itself failed.
    """
    with tempfile.TemporaryDirectory(prefix="kairos-bench-") as directory:
        file = write_bodies(Path(directory), bodies)
        with start(url, file, connections, lasting_s or seconds(), delay_ms) as process:
            return read(process)


def write_bodies(directory: Path, bodies: Sequence[bytes]) -> Path:
    """One body a line, in an order of its own for every run, so that no two runs begin with the same visitors."""
    shuffled = list(bodies)
    random.shuffle(shuffled)
    file = directory / "bodies"
    file.write_bytes(b"\n".join(shuffled) + b"\n")
    return file


def start(url: str, file: Path, connections: int, lasting_s: float, delay_ms: int = 0) -> subprocess.Popen[str]:
    """wrk in the background; `read` waits for its figures."""
    whole = max(1, round(lasting_s))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "10s", "-s", str(SCRIPT), url]
    return subprocess.Popen(
        [*command, "--", str(file), str(delay_ms)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def read(process: subprocess.Popen[str]) -> Load:
    """Wait for wrk and read what it says."""
    said, _ = process.communicate(timeout=600)
    lines = [line for line in said.splitlines() if line.startswith(MARK)]
    if not lines:
        raise RuntimeError(f"wrk failed: {said.strip()}")
    return Load(**json.loads(lines[-1].removeprefix(MARK)))


def median(loads: Sequence[Load], name: str) -> float | None:
    """The median of one figure over rounds; None without rounds."""
    return statistics.median(getattr(load, name) for load in loads) if loads else None
