"""The processes and ports of a running Kairos, and who holds a port."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass

import psutil

from serving.running import Recorded, Run
from serving.settings import is_loopback


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a port; another user's process may hide its pid."""

    pid: int | None
    text: str


def owner_of(port: int) -> Owner | None:
    """Who listens on a port of this machine; None where it is free."""
    with suppress(psutil.Error):
        for seen in psutil.net_connections(kind="tcp"):
            if seen.status == psutil.CONN_LISTEN and seen.laddr.port == port:
                return Owner(seen.pid, _text(seen.pid))
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except PermissionError:
            return Owner(None, "nobody, but this user may not open it")
        except OSError:
            return Owner(None, _text(None))
    return None


def stale(run: Run | None) -> list[Recorded]:
    """Recorded processes that outlived their run: the one that started the others, first on record, is gone."""
    if run is None or not run.processes or run.processes[0].process is not None:
        return []
    return run.alive


def ports_of(run: Run | None) -> list[tuple[psutil.Process, str]]:
    """The live processes of a run with their descendants, each once, with what it is."""
    found: dict[int, tuple[psutil.Process, str]] = {}
    for one in run.alive if run is not None else []:
        assert one.process is not None
        found[one.process.pid] = (one.process, one.what)
        with suppress(psutil.Error):
            for child in one.process.children(recursive=True):
                found.setdefault(child.pid, (child, _name(child)))
    return list(found.values())


def listening(run: Run | None) -> list[tuple[int, str, str, bool]]:
    """(port, address, what, whether only this machine reaches it) of every listening port of a run; loopback first."""
    rows = set()
    for process, what in ports_of(run):
        with suppress(psutil.Error):
            for seen in process.net_connections(kind="tcp"):
                if seen.status == psutil.CONN_LISTEN:
                    rows.add((seen.laddr.port, seen.laddr.ip, f"{what} ({process.pid})", is_loopback(seen.laddr.ip)))
    return sorted(rows, key=lambda row: (not row[3], *row))


def _text(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    with suppress(psutil.Error):
        return f"{_name(psutil.Process(pid))} (pid {pid})"
    return f"pid {pid}"


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return str(process.name())
    return "unknown"
