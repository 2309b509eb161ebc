"""What a server writes in one turn of the loop leaves in one write, in order, and before a close."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.one_write import OneWrite, write_once


class Wire:
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.closing = False

    def write(self, chunk: bytes) -> None:
        self.told.append(chunk)

    def close(self) -> None:
        self.told.append("closed")
        self.closing = True

    def abort(self) -> None:
        self.told.append("aborted")

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> str:
        return name.upper()


async def test_one_turn_is_one_write() -> None:
    wire = Wire()
    transport = OneWrite(asyncio.get_running_loop(), wire)
    transport.write(b"head ")
    transport.write(b"body")
    assert wire.told == []
    await asyncio.sleep(0)
    transport.write(b"next")
    await asyncio.sleep(0)
    assert wire.told == [b"head body", b"next"]
    assert transport.get_extra_info("peername") == "PEERNAME"


async def test_a_close_comes_after_what_was_written_and_an_abort_instead_of_it() -> None:
    wire, dropped = Wire(), Wire()
    loop = asyncio.get_running_loop()
    transport, other = OneWrite(loop, wire), OneWrite(loop, dropped)
    transport.write(b"last")
    transport.close()
    other.write(b"last")
    other.abort()
    await asyncio.sleep(0)
    assert (wire.told, dropped.told) == ([b"last", "closed"], ["aborted"])


async def test_uvicorn_answers_whole_streamed_and_piped_requests_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"a", b"b", b"c"):
            await send({"type": "http.response.body", "body": part * 70_000, "more_body": True})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    monkeypatch.setattr(HttpToolsProtocol, "connection_made", HttpToolsProtocol.connection_made)
    write_once()
    server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", lifespan="off", log_level="error"))
    serving = asyncio.ensure_future(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn tells of its start by this flag alone)
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        replies = await asyncio.gather(*(client.get(f"/{i}") for i in range(8)))
    assert [r.text for r in replies] == ["a" * 70_000 + "b" * 70_000 + "c" * 70_000 + f"/{i}" for i in range(8)]
    server.should_exit = True
    await serving
