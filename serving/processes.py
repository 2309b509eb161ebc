"""Which processes a run has, written down so that the next run can end exactly those that a killed one left."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import psutil

from serving.proxy_traffic import sockets_in, traffic_of

END_WITHIN_S: Final = 5.0


class RunRecord:
    """`run.json` in the data directory: pid, start time and name of every process of the run."""

    def __init__(self, data_dir: Path, run_dir: Path) -> None:
        self._file = data_dir / "run.json"
        self._pids_file = run_dir / "haproxy.pids"
        self._known: dict[tuple[int, float], str] = {}

    def note(self, port: int) -> None:
        """Write down what runs now; what ran earlier in this run stays noted."""
        found = [psutil.Process()]
        with suppress(psutil.Error):
            found += psutil.Process().children(recursive=True)
        for process in found + self._proxies():
            with suppress(psutil.Error):
                self._known[process.pid, process.create_time()] = process.name()
        rows = [{"pid": pid, "create_time": at, "what": what} for (pid, at), what in self._known.items()]
        text = json.dumps({"port": port, "processes": rows})
        draft = self._file.with_suffix(".draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._file)

    def _proxies(self) -> list[psutil.Process]:
        # HAProxy outlives its parent; its wrapper wrote its pid down.
        found = []
        with suppress(OSError):
            for line in self._pids_file.read_text(encoding="utf-8").split():
                with suppress(psutil.Error, ValueError):
                    process = psutil.Process(int(line))
                    if "haproxy" in process.name():
                        found.append(process)
        return found

    def drain_proxies(self, within_s: float) -> None:
        """Have HAProxy let nobody new in, close each connection with its next answer, and finish what is under way.

        It does not end by that: clients may keep idle connections for a long time.
        """
        with ExitStack() as conversations:
            sockets = sockets_in(self._pids_file.parent)
            opened = [conversations.enter_context(traffic_of(path)) for path in sockets]
            for process in self._proxies():
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGUSR1)
            for traffic in opened:
                if traffic is not None:
                    traffic.quiet(within_s)

    def end_proxies(self) -> None:
        """End HAProxy: nothing new is let in."""
        end(self._proxies())

    def leftovers(self) -> list[psutil.Process]:
        """Processes of an earlier run that still live: the pid and the start time are those noted."""
        try:
            rows: list[dict[str, Any]] = json.loads(self._file.read_text(encoding="utf-8"))["processes"]
        except (OSError, ValueError, KeyError):
            rows = []
        alive = []
        for row in rows:
            with suppress(psutil.Error):
                process = psutil.Process(row["pid"])
                same = abs(process.create_time() - row["create_time"]) < 0.01
                if same and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
        return alive

    def end_leftovers(self) -> list[str]:
        """End them, kindly and then not; returns their names."""
        ended = end(self.leftovers())
        with suppress(OSError):
            self._pids_file.unlink()
        return ended

    def close(self) -> None:
        """End whatever of this run still lives, and forget the record."""
        children = []
        with suppress(psutil.Error):
            children = psutil.Process().children(recursive=True)
        end(children + self._proxies() + self.leftovers())
        for file in (self._file, self._pids_file):
            file.unlink(missing_ok=True)


def end(processes: list[psutil.Process]) -> list[str]:
    """SIGTERM, and SIGKILL for those that are still there after some seconds; returns the names."""
    names = []
    for process in processes:
        with suppress(psutil.Error):
            names.append(process.name())
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=END_WITHIN_S)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=END_WITHIN_S)
    return names


def port_holder(host: str, port: int) -> str | None:
    """Who listens on a port, as `name (pid n)`; None when nobody does that can be seen."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.laddr.ip not in (host, "0.0.0.0", "::", "127.0.0.1"):
                    continue
                if connection.pid is None:
                    return "a process of another user"
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return None
