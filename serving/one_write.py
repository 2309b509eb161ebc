"""One write for a whole response: head and body leave in one system call and one packet."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any


class OneWrite:
    """A transport that sends what was written to it in one turn of the loop at once, at the turn's end.

    Everything else is the transport's own. Order is kept; `close` and `abort` come after what was written before them.
    """

    __slots__ = ("_chunks", "_loop", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Any) -> None:
        self._loop, self._transport = loop, transport
        self._chunks: list[bytes] = []

    def write(self, chunk: bytes) -> None:
        """Send with whatever else is written in this turn."""
        if not self._chunks:
            self._loop.call_soon(self._flush)
        self._chunks.append(chunk)

    def write_at_once(self, whole: bytes) -> None:
        """Send a response that nothing more belongs to, after what was written before it."""
        if self._chunks:
            self._chunks.append(whole)
        elif not self._transport.is_closing():
            self._transport.write(whole)

    def _flush(self) -> None:
        chunks, self._chunks = self._chunks, []
        if chunks and not self._transport.is_closing():
            self._transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def close(self) -> None:
        """Send what is written, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection, and what is written with it."""
        self._chunks = []
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def write_once() -> None:
    """In a replica: let uvicorn write a response once.

    It writes head and body one after the other, and a write is a third of what a response costs it (measured).
    """
    http: Any = import_module("uvicorn.protocols.http.httptools_impl").HttpToolsProtocol
    made = http.connection_made

    def connection_made(protocol: Any, transport: Any) -> None:
        made(protocol, OneWrite(protocol.loop, transport))

    http.connection_made = connection_made
