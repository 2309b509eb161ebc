"""A real recommender for tests, on a port of its own, that answers, errs, hangs or talks nonsense as told."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Recommender:
    """`behave` is what it does next; `asked` what it was asked, as request lines; `headers` what came with the last."""

    port: int = 0
    behave: str = "well"
    body: bytes = b'[{"id":"r1","score":0.4,"content":{"t":1}},"r2",{"id":3}]'
    asked: list[str] = field(default_factory=list)
    headers: str = ""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/recs"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving[task] = writer
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.asked.append(head.splitlines()[0].split()[1])
                self.headers = head
                if self.behave == "hang":
                    await self.released.wait()
                if self.behave == "hang up":
                    return
                writer.write(self._reply())
                await writer.drain()
                if self.behave == "no http":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    def _reply(self) -> bytes:
        body, status = self.body, "200 OK"
        if self.behave == "err":
            status = "500 Broken"
        elif self.behave == "redirect":
            status = "302 Found\r\nlocation: http://127.0.0.1:1/"
        elif self.behave == "garbage":
            body = b"<html>\xff not what you think"
        elif self.behave == "no http":
            return b"hello\r\n\r\n"
        elif self.behave == "flood":
            body = b'["' + b"x" * 2_000_000 + b'"]'
        elif self.behave == "bomb":
            body, status = gzip.compress(b"[" + b" " * 20_000 + b"]"), "200 OK\r\ncontent-encoding: gzip"
        elif self.behave == "odd":
            body = b'{"items":[{"id":null}]}'
        return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def recommending() -> AsyncIterator[Recommender]:
    """One that runs as long as the block."""
    made = Recommender()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.released.set()
        server.close()
        for writer in made.serving.values():
            writer.transport.abort()
        await asyncio.gather(*made.serving, return_exceptions=True)
