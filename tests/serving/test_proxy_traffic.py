"""What HAProxy has under way and whom it knows, as it says over its socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.proxy_traffic import await_replicas, sockets_in, traffic_of

HEAD = "# pxname,svname,qcur,qmax,scur,smax\n"
Says = Callable[[int], str]
"""The rows for the nth question about servers or back ends."""


class Proxy:
    """Answers on a socket as HAProxy does."""

    def __init__(self, path: Path, says: Says) -> None:
        self._says, self._asked = says, 0
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb", buffering=0) as stream:
                while line := stream.readline():
                    answer = ""
                    if line.startswith(b"show stat"):
                        self._asked += 1
                        answer = HEAD + self._says(self._asked)
                    stream.write(f"{answer}\n> ".encode())

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5.0)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Callable[[Says], Path]]:
    """Starts a proxy; returns the folder of its run."""
    opened: list[Proxy] = []

    def start(says: Says) -> Path:
        (tmp_path / "node").mkdir()
        opened.append(Proxy(tmp_path / "node" / "haproxy.sock", says))
        return tmp_path

    yield start
    for one in opened:
        one.close()


def test_it_is_quiet_when_no_back_end_has_a_request(proxy: Callable[[Says], Path]) -> None:
    asked: list[int] = []

    def says(n: int) -> str:
        asked.append(n)
        return f"kairos,BACKEND,{max(0, 2 - n)},9,{max(0, 3 - n)},9\nstats,BACKEND,0,0,0,0\n"

    with traffic_of(sockets_in(proxy(says))[0]) as traffic:
        assert traffic is not None
        assert traffic.quiet(10.0)
    assert asked == [1, 2, 3]


def test_it_is_not_quiet_while_a_request_lasts(proxy: Callable[[Says], Path]) -> None:
    with traffic_of(sockets_in(proxy(lambda _n: "kairos,BACKEND,0,0,1,1\n"))[0]) as traffic:
        assert traffic is not None
        assert not traffic.quiet(0.0)


def test_replicas_are_waited_for(proxy: Callable[[Says], Path]) -> None:
    asked: list[int] = []

    def says(n: int) -> str:
        asked.append(n)
        return "".join(f"kairos,SERVE_REPLICA_{i},0,0,0,0\n" for i in range(n)) + "kairos,SERVE_PROXY,0,0,0,0\n"

    await_replicas(proxy(says), 3, 10.0)
    assert asked == [1, 2, 3]


def test_nobody_on_the_socket_is_no_traffic(tmp_path: Path) -> None:
    with traffic_of(tmp_path / "haproxy.sock") as traffic:
        assert traffic is None
