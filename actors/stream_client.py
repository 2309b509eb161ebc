"""The asker's end of the direct stream: many requests in flight, reconnects by itself, never repeats a request."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from contextlib import suppress
from typing import cast

from actors.begun import Begun
from actors.ending import ended
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
from engine.errors import TooLarge, Unavailable

NOT_CONNECTED, CONNECTION_LOST, OVERLOADED = "not_connected", "connection_lost", "overloaded"
DEADLINE_EXCEEDED = "deadline_exceeded"

CONNECT_WITHIN_S = 3.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.5


class StreamClient:
    """A persistent stream to one `StreamServer`. Verbs: request, retire, close.

    It connects at the first request and keeps at it until closed. Belongs to one event loop.
    """

    def __init__(
        self,
        address: str,
        secret: bytes,
        *,
        max_in_flight: int = 4096,
        max_queued_bytes: int = 16 << 20,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        self.address, self.secret = address, secret
        self.max_in_flight, self.max_queued_bytes = max_in_flight, max_queued_bytes
        self.max_frame_bytes = max_frame_bytes
        self.n_connects = 0
        self._in_flight: dict[int, asyncio.Future[bytes]] = {}
        self._last_correlation = 0
        self._connection: _Connection | None = None
        self._attempt: asyncio.Future[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._retired = False
        self._up = asyncio.Event()
        self._trouble = "no attempt yet"

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def n_in_flight(self) -> int:
        return len(self._in_flight)

    async def ready(self, timeout_s: float) -> None:
        """Wait until there is a connection, through as many attempts as it takes.

        Raises:
            engine.errors.Unavailable: `not_connected`.
        """
        self._begin(asyncio.get_running_loop())
        try:
            await asyncio.wait_for(self._up.wait(), timeout_s)
        except TimeoutError:
            raise Unavailable(NOT_CONNECTED, f"no stream to {self.address}: {self._trouble}") from None

    async def request(self, payload: bytes, timeout_s: float) -> bytes:
        """Ask, and wait for the answer to it.

        Raises:
            engine.errors.TooLarge: `frame_too_large`, the request (not sent) or its answer is over-long.
            engine.errors.Unavailable: `not_connected` or `overloaded` (not sent), `connection_lost` or
                `deadline_exceeded` (sent: it may have had its effect).
        """
        if len(payload) > self.max_frame_bytes:
            raise TooLarge("frame_too_large", f"a request of {len(payload)} bytes; the limit is {self.max_frame_bytes}")
        loop = asyncio.get_running_loop()
        if self._connection is None:
            give_up_s = loop.time() + timeout_s
            await self._wait_for_connection(loop, timeout_s)
            timeout_s = max(0.0, give_up_s - loop.time())
        connection = self._connection
        if connection is None:
            raise Unavailable(NOT_CONNECTED, f"no stream to {self.address}: {self._trouble}")
        if len(self._in_flight) >= self.max_in_flight or connection.queued_bytes() > self.max_queued_bytes:
            raise Unavailable(OVERLOADED, f"too many requests to {self.address} are in flight")
        answer: asyncio.Future[bytes]
        self._last_correlation = correlation = self._last_correlation + 1
        self._in_flight[correlation] = answer = loop.create_future()
        connection.writer.send(correlation, payload)
        timer = loop.call_later(timeout_s, self._expire, answer)
        try:
            reply = await answer
        finally:
            timer.cancel()
            self._in_flight.pop(correlation, None)
            self._close_if_retired(connection)
        if not reply:
            raise TooLarge("frame_too_large", "the answer is over-long")
        return reply

    def begin(self, payload: bytes) -> Begun | None:
        """Send now, if there is a connection with room for it; else nothing is sent and None returned.

        The caller keeps the time. `answer` raises Unavailable `connection_lost` as `request` does.
        """
        connection = self._connection
        if (
            connection is None
            or self._retired
            or len(payload) > self.max_frame_bytes
            or len(self._in_flight) >= self.max_in_flight
            or connection.queued_bytes() > self.max_queued_bytes
        ):
            return None
        self._last_correlation = correlation = self._last_correlation + 1
        self._in_flight[correlation] = connection.loop.create_future()
        connection.writer.send(correlation, payload)
        return Begun(self._in_flight, correlation)

    def _expire(self, answer: asyncio.Future[bytes]) -> None:
        if not answer.done():
            answer.set_exception(Unavailable(DEADLINE_EXCEEDED, f"{self.address} did not answer in time"))

    async def _wait_for_connection(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        """Wait for the attempt that is under way; between attempts do not wait at all."""
        self._begin(loop)
        if self._attempt is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._attempt), timeout_s)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._keeping is None and not self._retired:
            self._attempt = loop.create_future()
            self._keeping = loop.create_task(self._keep())

    async def _keep(self) -> None:
        """Connect, live until the connection ends, pause, and again; a longer pause after each failure."""
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while not self._retired:
            self._attempt = self._attempt or loop.create_future()
            connection = None
            try:
                connection = await asyncio.wait_for(self._connect(loop), CONNECT_WITHIN_S)
            except TimeoutError:
                self._trouble = "it does not answer"
            except (OSError, ValueError) as error:
                self._trouble = str(error) or type(error).__name__
            attempt, self._attempt = self._attempt, None
            if connection is not None:
                self._connection = connection
                self.n_connects += 1
                self._up.set()
            attempt.set_result(None)
            if connection is not None:
                pause_s = FIRST_PAUSE_S
                self._close_if_retired(connection)
                await connection.lost
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> _Connection:
        host, _, port = self.address.rpartition(":")
        transport, connection = await loop.create_connection(
            lambda: _Connection(self, loop), host.strip("[]"), int(port)
        )
        try:
            if not connection.made:  # uvloop also returns when the connection died before it was told of
                raise ConnectionError("closed while connecting")
            await connection.proven
        except BaseException:
            transport.abort()
            raise
        return connection

    def received(self, frames: list[tuple[int, bytes]]) -> None:
        """Answers, in any order; what nobody waits for any more is dropped."""
        for correlation, payload in frames:
            answer = self._in_flight.pop(correlation, None)
            if answer is not None and not answer.done():
                answer.set_result(payload)
        if self._retired and self._connection is not None:
            self._close_if_retired(self._connection)

    def lost(self, connection: _Connection) -> None:
        """The connection is gone: whether the requests in flight had their effect is not known."""
        if connection is not self._connection:
            return
        self._connection = None
        self._up.clear()
        self._trouble = "connection lost"
        for answer in self._in_flight.values():
            if not answer.done():
                answer.set_exception(Unavailable(CONNECTION_LOST, f"the stream to {self.address} was lost"))
        self._in_flight.clear()

    def retire(self) -> None:
        """Take no new requests; close when the last answer is in."""
        self._retired = True
        if self._connection is not None:
            self._close_if_retired(self._connection)

    def _close_if_retired(self, connection: _Connection) -> None:
        if self._retired and not self._in_flight:
            connection.close()

    async def close(self) -> None:
        """End the stream; what is in flight fails with `connection_lost`."""
        self._retired = True
        if self._connection is not None:
            self._connection.abort()
            await self._connection.lost
        await ended(self._keeping)
        self._keeping = None
        if self._attempt is not None and not self._attempt.done():
            self._attempt.set_result(None)


class _Connection(asyncio.Protocol):
    """One connection: first the handshake, then answers."""

    transport: asyncio.Transport
    writer: FrameWriter

    def __init__(self, client: StreamClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self.loop = client, loop
        self._reader = FrameReader(len(VERSION) + NONCE_BYTES)
        self._nonces = (b"", secrets.token_bytes(NONCE_BYTES))
        self._let_in = self.made = False
        self.proven: asyncio.Future[None] = loop.create_future()
        self.proven.add_done_callback(lambda proven: proven.cancelled() or proven.exception())
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, but do what they do.
        transport = cast(asyncio.Transport, transport)
        self.transport, self.writer, self.made = transport, FrameWriter(self.loop, transport), True
        tune(transport)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
            while not self._let_in and frames:
                self._shake_hands(frames.pop(0)[1])
        except (TooLarge, ConnectionError) as error:
            self._fail(error)
            return
        self._client.received(frames)

    def _shake_hands(self, shown: bytes) -> None:
        server_nonce, nonce = self._nonces
        if not server_nonce:
            if not shown.startswith(VERSION) or len(shown) != len(VERSION) + NONCE_BYTES:
                raise ConnectionError("the other side does not speak this version of the stream")
            server_nonce = shown[len(VERSION) :]
            self._nonces = server_nonce, nonce
            self._reader.max_bytes = PROOF_BYTES
            self.writer.send(0, nonce + proof(self._client.secret, b"client", server_nonce, nonce))
            return
        if not hmac.compare_digest(shown, proof(self._client.secret, b"server", server_nonce, nonce)):
            raise ConnectionError("the other side does not know the secret")
        self._let_in = True
        self._reader.max_bytes = self._client.max_frame_bytes
        if not self.proven.done():
            self.proven.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self.proven.done():
            self.proven.set_exception(ConnectionError(str(error)))
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.proven.done():
            self.proven.set_exception(ConnectionError("closed during the handshake: is the secret the same?"))
        if not self.lost.done():
            self.lost.set_result(None)
        self._client.lost(self)

    def queued_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def close(self) -> None:
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()
