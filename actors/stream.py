"""The shard's end of the direct stream: takes authenticated requests in batches, answers each when it is ready."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from actors.frames import (
    MAX_FRAME_BYTES,
    NONCE_BYTES,
    PROOF_BYTES,
    VERSION,
    FrameReader,
    FrameWriter,
    proof,
    tune,
)
from engine.errors import InvalidInput, TooLarge

log = logging.getLogger("kairos.stream")

HANDSHAKE_WITHIN_S = 5.0
MAX_CONNECTIONS = 1024


@dataclass(slots=True)
class Request:
    """One request as it came in; `reply` may be called from the loop's thread, once, at any later time."""

    correlation: int
    payload: bytes
    connection: _Connection

    def reply(self, payload: bytes) -> None:
        """Send the answer; it is dropped where the asker has gone, and sent as empty where it is over-long."""
        self.connection.send(self.correlation, payload)


Handler = Callable[[list[Request]], None]


class StreamServer:
    """Listens on one address of the node. `handler` gets all requests that arrived together, and must not block.

    `pause` stops reading from every connection, so that the askers' own bounds are felt; `resume` goes on.
    """

    def __init__(
        self,
        handler: Handler,
        secret: bytes,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        handshake_within_s: float = HANDSHAKE_WITHIN_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        if host in ("", "0.0.0.0", "::", "*"):
            raise InvalidInput("bad_stream_host", "a stream listens on the address of its node, not on all of them")
        self.handler, self.secret = handler, secret
        self.max_frame_bytes, self.handshake_within_s = max_frame_bytes, handshake_within_s
        self.max_connections = max_connections
        self.paused = False
        self.connections: set[_Connection] = set()
        self.address = ""
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; returns host:port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self, loop), self._host, self._port, backlog=512)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self.address

    async def stop(self) -> None:
        """Take no more; what has been answered is still sent, what has not is lost to its asker."""
        if self._server is None:
            return
        self._server.close()
        await asyncio.sleep(0)  # lets the replies of this turn reach their transports
        gone = [connection.gone for connection in self.connections]
        for connection in list(self.connections):
            connection.close()
        if gone:
            await asyncio.wait(gone, timeout=2.0)
        for connection in list(self.connections):
            connection.abort()
        self._server = None

    def pause(self) -> None:
        """Read nothing more from anybody who has been let in."""
        self.paused = True
        for connection in self.connections:
            connection.read_or_not()

    def resume(self) -> None:
        """Read again."""
        self.paused = False
        for connection in self.connections:
            connection.read_or_not()


class _Connection(asyncio.Protocol):
    """One asker: first the handshake, then requests."""

    _transport: asyncio.Transport
    _writer: FrameWriter

    def __init__(self, server: StreamServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._loop = server, loop
        self._reader = FrameReader(NONCE_BYTES + PROOF_BYTES)
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._let_in = self.reading = self._choked = False
        self.gone: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, but do what they do.
        transport = cast(asyncio.Transport, transport)
        self._transport, self._writer, self.reading = transport, FrameWriter(self._loop, transport), True
        server = self._server
        if len(server.connections) >= server.max_connections:
            transport.abort()
            return
        server.connections.add(self)
        tune(transport)
        self._too_late = self._loop.call_later(server.handshake_within_s, self._give_up)
        self._writer.send(0, VERSION + self._nonce)

    def _give_up(self) -> None:
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # noqa: ARG002
        if self in self._server.connections:
            self._server.connections.discard(self)
            self._too_late.cancel()
        if not self.gone.done():
            self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
            if not self._let_in and frames:
                frames = self._shake_hands(frames)
        except TooLarge as error:
            log.warning("closing the stream of %s: %s", self._transport.get_extra_info("peername"), error)
            self._transport.abort()
            return
        if frames:
            self._server.handler([Request(correlation, payload, self) for correlation, payload in frames])

    def _shake_hands(self, frames: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        (_, answer), *rest = frames
        nonce, shown = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
        if rest or not hmac.compare_digest(shown, proof(self._server.secret, b"client", self._nonce, nonce)):
            log.warning("refused a stream from %s: it does not know the secret", self._peer)
            self._transport.abort()
            return []
        self._too_late.cancel()
        self._let_in = True
        self._reader.max_bytes = self._server.max_frame_bytes
        self._writer.send(0, proof(self._server.secret, b"server", self._nonce, nonce))
        self.read_or_not()
        return []

    @property
    def _peer(self) -> object:
        return self._transport.get_extra_info("peername")

    def send(self, correlation: int, payload: bytes) -> None:
        if len(payload) > self._server.max_frame_bytes:
            log.error("a reply of %d bytes is over-long and was not sent", len(payload))
            payload = b""
        if not self._transport.is_closing():
            self._writer.send(correlation, payload)

    def pause_writing(self) -> None:
        self._choked = True
        self.read_or_not()

    def resume_writing(self) -> None:
        self._choked = False
        self.read_or_not()

    def read_or_not(self) -> None:
        """Read only while the shard can take more and this asker takes its answers."""
        wanted = not (self._let_in and (self._server.paused or self._choked))
        if wanted == self.reading or self._transport.is_closing():
            return
        self.reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
