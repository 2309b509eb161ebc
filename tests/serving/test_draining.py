"""The end of a run: what is under way is finished, and who asks whether Kairos is ready is told that it is not."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from actors.memory import memory_stores
from serving.draining import end_draining, is_draining, say_draining
from tests.serving.running import Running, until

BODY = b'{"anonymousId":"slow","placement":"product_page"}'


async def test_it_is_said_once_and_a_new_run_takes_it_back() -> None:
    documents = memory_stores().documents
    assert not await is_draining(documents)
    await say_draining(documents)
    await say_draining(documents)
    assert await is_draining(documents)
    await end_draining(documents)
    assert not await is_draining(documents)


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
READY = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"


def is_open(running: Running) -> bool:
    """Whether somebody new is let in."""
    try:
        connected(running).close()
    except OSError:
        return False
    return True


def connected(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=20.0)


def answer(connection: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(200)
def test_requests_under_way_are_answered_and_readiness_is_withdrawn(tmp_path: Path) -> None:
    running = Running(tmp_path / ".kairos").wait_ready()
    deciding, asking, late = connected(running), connected(running), connected(running)
    head = "POST /v1/decide HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    deciding.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:10])
    asking.sendall(HEALTH)
    assert asking.recv(65536).startswith(b"HTTP/1.1 200")
    late.sendall(HEALTH)
    assert late.recv(65536).startswith(b"HTTP/1.1 200")
    running.process.send_signal(signal.SIGINT)
    until(lambda: not is_open(running))
    # Connections that are there may go on, each with one more request.
    asking.sendall(READY)
    ready = answer(asking)
    deciding.sendall(BODY[10:])
    decided = answer(deciding)
    assert decided.startswith(b"HTTP/1.1 200")
    assert b'"decisionId"' in decided
    assert ready.startswith(b"HTTP/1.1 503")
    assert b"being stopped" in ready
    assert running.end() == 0
    for connection in (deciding, asking, late):
        connection.close()
