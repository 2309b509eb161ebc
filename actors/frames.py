"""Frames on a stream between ingress and shard: how they are cut, gathered into one write, and who may send them.

A frame is a 12-byte head (big-endian: u32 length of the payload, u64 correlation id) and the payload. Before the first
request both sides prove that they know the stream's secret:

    server → client   VERSION + server's nonce (32)
    client → server   client's nonce (32) + HMAC-SHA256(secret, "client" + both nonces)
    server → client   HMAC-SHA256(secret, "server" + both nonces)

The bytes that follow are neither encrypted nor signed: a stream belongs on a network that nobody else can write to.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
import struct
from typing import Final

from engine.errors import TooLarge

HEAD: Final = struct.Struct(">IQ")
VERSION: Final = b"kairos-stream-1\n"
NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32
MAX_FRAME_BYTES: Final = 8 << 20
READ_AGAIN_BELOW, PAUSE_WRITING_ABOVE = 256 << 10, 1 << 20


def proof(secret: bytes, side: bytes, server_nonce: bytes, client_nonce: bytes) -> bytes:
    """What one side shows the other; the side's name keeps a proof from being handed back as one's own."""
    return hmac.digest(secret, VERSION + side + server_nonce + client_nonce, "sha256")


class FrameReader:
    """Cuts what arrives into (correlation, payload)."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._rest = bytearray()
        self._wanted = 0

    def feed(self, chunk: bytes) -> list[tuple[int, bytes]]:
        """The frames that are complete with this chunk.

        Raises:
            engine.errors.TooLarge: `frame_too_large`; the stream cannot be read any further.
        """
        if self._rest:
            self._rest += chunk
            if len(self._rest) < self._wanted:
                return []
            chunk = bytes(self._rest)
        frames = []
        at, end, head, max_bytes = 0, len(chunk), HEAD.size, self.max_bytes
        self._wanted = 0
        while end - at >= head:
            size, correlation = HEAD.unpack_from(chunk, at)
            if size > max_bytes:
                raise TooLarge("frame_too_large", f"a frame of {size} bytes; at most {max_bytes} are allowed")
            stop = at + head + size
            if stop > end:
                self._wanted = stop - at
                break
            frames.append((correlation, chunk[at + head : stop]))
            at = stop
        self._rest = bytearray(chunk[at:]) if at < end else bytearray()
        return frames


class FrameWriter:
    """Gathers the frames of one turn of the loop into one write."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop, self._transport = loop, transport
        self._frames: list[bytes] = []

    def send(self, correlation: int, payload: bytes) -> None:
        if not self._frames:
            self._loop.call_soon(self._flush)
        self._frames += (HEAD.pack(len(payload), correlation), payload)

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        if not self._transport.is_closing():
            self._transport.write(b"".join(frames))


def tune(transport: asyncio.Transport) -> None:
    """Send at once, bound what waits to be written, notice within ten seconds or so that a machine has gone."""
    transport.set_write_buffer_limits(high=PAUSE_WRITING_ABOVE, low=READ_AGAIN_BELOW)
    peer = transport.get_extra_info("socket")
    if peer is None:
        return
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 11_000)):
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
