"""A shop's own endpoint for webhooks: a real HTTP server on loopback that answers, fails, or hangs, as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from actors.ending import ended

HANG, DRIP = -1, -2
Answers = Callable[[int], int]
"""The status for the n-th request, from 1; HANG for none at all, DRIP for headers that never end."""


@dataclass
class Receiver:
    """Everything it was sent, taken or not; `answers` may be changed at any time."""

    answers: Answers = lambda n: 200
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    url: str = ""
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> Receiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/hooks"
        return self

    async def stop(self) -> None:
        self._server.close()
        await ended(*self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()
            self._open.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.headers.append(headers)
            self.bodies.append(body)
            status = self.answers(len(self.bodies))
            if status == HANG:
                await reader.read()
            elif status == DRIP:
                writer.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    writer.write(b"x: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            else:
                if 200 <= status < 300:
                    self.taken.append(headers["idempotency-key"])
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
                await writer.drain()
