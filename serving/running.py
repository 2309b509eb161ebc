"""Which Kairos runs on a data directory: its processes on record, and the address of its store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil

from engine.errors import Unavailable

RUN_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A process that a run wrote down, and that very process if it is still there."""

    pid: int
    what: str
    process: psutil.Process | None


@dataclass(frozen=True, slots=True)
class Run:
    """What `kairos up` wrote down when it started."""

    port: int | None
    processes: tuple[Recorded, ...]

    @property
    def alive(self) -> list[Recorded]:
        """The recorded processes that still run."""
        return [recorded for recorded in self.processes if recorded.process is not None]


def read_run(data_dir: Path) -> Run | None:
    """The record of the last run; None where there is no readable one."""
    try:
        record = orjson.loads((data_dir / RUN_FILE).read_bytes())
        rows = [(int(row["pid"]), float(row["create_time"]), str(row["what"])) for row in record["processes"]]
        port = record.get("port")
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    processes = tuple(Recorded(pid, what, same_process(pid, created)) for pid, created, what in rows)
    return Run(port if isinstance(port, int) else None, processes)


def same_process(pid: int, create_time: float) -> psutil.Process | None:
    """The process of that pid, if it is the one that began then; pids are given again."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - create_time) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if same else None


def running_store(data_dir: Path) -> str | None:
    """The address of the embedded store that runs on a data directory; None where none runs."""
    from actors.embedded_process import read_record

    record = read_record(data_dir.absolute() / "store" / "server.json")
    if record is None or record.process() is None:
        return None
    return f"unix://{record.socket}"


def store_address(redis_url: str | None, data_dir: Path) -> str:
    """Where the store is: `REDIS_URL`, else the embedded one that runs on the data directory.

    Raises:
        engine.errors.Unavailable: `no_store`.
    """
    found = redis_url or running_store(data_dir)
    if found is None:
        raise Unavailable("no_store", f"no Kairos runs on {data_dir}: start `kairos up` first, or give REDIS_URL")
    return found
