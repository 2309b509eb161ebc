"""An answer known as a whole leaves in one write, and says on the wire what uvicorn would have said."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from serving.one_write import OneWrite, write_once
from serving.whole_answer import whole
from tests.serving.test_one_write import Wire

REQUEST = b"POST /v1/decide HTTP/1.1\r\nhost: a\r\n%bcontent-length: 2\r\n\r\n{}"


class Sent(Wire):
    """A wire with the names that uvicorn asks for."""

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name.endswith("name") else None

    def resume_reading(self) -> None:
        self.reading = True


async def told(monkeypatch: pytest.MonkeyPatch, messages: list[dict[str, Any]], *, short: bool, more: bytes) -> Any:
    """What goes over the wire for an application that sends `messages`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        send = whole(send) if short else send
        for message in messages:
            await send(message)

    monkeypatch.setattr(HttpToolsProtocol, "connection_made", HttpToolsProtocol.connection_made)
    write_once()
    state = ServerState()
    state.default_headers = [(b"server", b"uvicorn")]
    config = uvicorn.Config(app, proxy_headers=False, lifespan="off", log_config=None)
    protocol, wire = HttpToolsProtocol(config, state, {}, _loop=asyncio.get_running_loop()), Sent()
    protocol.connection_made(wire)  # type: ignore[arg-type]
    assert isinstance(protocol.transport, OneWrite)
    for _ in range(2):
        protocol.data_received(REQUEST % more)
        for _ in range(8):
            await asyncio.sleep(0)
    protocol._unset_keepalive_if_required()
    monkeypatch.undo()
    return wire.told


HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"4"), (b"traceparent", b"00-1-2-00")]


@pytest.mark.parametrize("more", [b"", b"connection: close\r\n"])
@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.start", "status": 200, "headers": HEADERS},
         {"type": "http.response.body", "body": b"body"}],
        [{"type": "http.response.start", "status": 503, "headers": HEADERS},
         {"type": "http.response.body", "body": b"body"}],
        [{"type": "http.response.start", "status": 200, "headers": []},
         {"type": "http.response.body", "body": b"bo", "more_body": True},
         {"type": "http.response.body", "body": b"dy"}],
        [{"type": "http.response.start", "status": 200, "headers": [*HEADERS, (b"connection", b"close")]},
         {"type": "http.response.body", "body": b"body"}],
        [{"type": "http.response.start", "status": 204, "headers": [(b"content-length", b"0")]},
         {"type": "http.response.body", "body": b""}],
    ],
)  # fmt: skip
async def test_the_short_way_says_the_same(
    monkeypatch: pytest.MonkeyPatch, messages: list[dict[str, Any]], more: bytes
) -> None:
    by_uvicorn = await told(monkeypatch, messages, short=False, more=more)
    assert b"HTTP/1.1" in by_uvicorn[0]
    assert await told(monkeypatch, messages, short=True, more=more) == by_uvicorn


@pytest.mark.filterwarnings("ignore")
async def test_a_value_that_would_split_the_response_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = [*HEADERS, (b"x", b"a\r\nset-cookie: b")]
    messages = [
        {"type": "http.response.start", "status": 200, "headers": headers},
        {"type": "http.response.body", "body": b"body"},
    ]
    assert not any(
        b"set-cookie" in part
        for part in await told(monkeypatch, messages, short=True, more=b"")
        if isinstance(part, bytes)
    )
