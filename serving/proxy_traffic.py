"""How many requests HAProxy has under way, asked over its own socket; an open question outlives its soft stop."""

from __future__ import annotations

import csv
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PROMPT: Final = b"\n> "
ANSWER_WITHIN_S: Final = 1.0
BETWEEN_S: Final = 0.02
BACK_ENDS: Final = b"show stat -1 2 -1\n"
"""That is where a request is from its first byte on until its answer has been sent."""
SERVERS: Final = b"show stat -1 4 -1\n"
REPLICA: Final = "SERVE_REPLICA"


class ProxyTraffic:
    """One conversation with a HAProxy."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def under_way(self) -> int:
        """Requests that wait for an answer or are being answered; OSError where HAProxy has gone."""
        return sum(int(row.get("scur") or 0) + int(row.get("qcur") or 0) for row in self._rows(BACK_ENDS))

    def replicas(self) -> int:
        """Replicas of the ingress that it sends requests to."""
        return sum(1 for row in self._rows(SERVERS) if row.get("svname", "").startswith(REPLICA))

    def _rows(self, question: bytes) -> list[dict[str, str]]:
        return list(csv.DictReader(self._asked(question).lstrip("# ").splitlines()))

    def _asked(self, question: bytes) -> str:
        self._connection.sendall(question)
        answer = b""
        while not answer.endswith(PROMPT):
            part = self._connection.recv(65536)
            if not part:
                raise ConnectionResetError("HAProxy has gone")
            answer += part
        return answer.removesuffix(PROMPT).decode()

    def quiet(self, within_s: float) -> bool:
        """Wait until nothing is under way, or HAProxy has ended; False if that took too long."""
        give_up_s = time.monotonic() + within_s
        with suppress(OSError):
            while self.under_way():
                if time.monotonic() > give_up_s:
                    return False
                time.sleep(BETWEEN_S)
        return True


def sockets_in(run_dir: Path) -> list[Path]:
    """HAProxy's sockets; Serve puts a folder of its own, named by the node, between."""
    return [*run_dir.glob("haproxy.sock"), *run_dir.glob("*/haproxy.sock")]


def await_replicas(run_dir: Path, n: int, within_s: float) -> None:
    """Wait until HAProxy knows so many replicas: for each new one a new HAProxy takes the place of the one before,
    which cuts off connections that stay idle."""
    give_up_s = time.monotonic() + within_s
    while time.monotonic() < give_up_s:
        known = []
        for path in sockets_in(run_dir):
            with traffic_of(path) as traffic, suppress(OSError):
                known.append(traffic.replicas() if traffic is not None else 0)
        if known and min(known) >= n:
            return
        time.sleep(BETWEEN_S)


@contextmanager
def traffic_of(path: Path) -> Iterator[ProxyTraffic | None]:
    """A conversation over HAProxy's socket; None where nobody answers there."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_WITHIN_S)
        traffic = ProxyTraffic(connection)
        try:
            connection.connect(str(path))
            traffic._asked(b"prompt\n")
        except OSError:
            yield None
        else:
            yield traffic
