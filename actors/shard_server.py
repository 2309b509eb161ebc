"""The shard's end of the streams: requests into the inbox, replies back as frames."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Final

import orjson

from actors.bundle import BUNDLE, unbundled
from actors.call import Call
from actors.operations import error, unavailable
from actors.ready_reply import READY, packed
from actors.shard import SessionShard
from actors.stream import Request, StreamServer

log = logging.getLogger("kairos.shard")

PAUSE_ABOVE: Final = 4_096
"""Requests that wait in the inbox when nothing more is read: far below what it refuses."""


class ShardServer:
    """Serves one shard on one address.

    While the inbox is long no stream is read, so that what is too much waits with those who ask, whose own bounds and
    time-outs then act. A stream whose asker does not take its replies is not read either, however short the inbox is.
    """

    def __init__(self, shard: SessionShard, secret: bytes, host: str) -> None:
        self._shard = shard
        self._stream = StreamServer(self._take, secret, host=host)

    async def start(self) -> str:
        """Listen; returns host:port."""
        return await self._stream.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._stream.stop()

    def _take(self, requests: list[Request]) -> None:
        shard = self._shard
        for request in requests:
            try:
                op, payload, partition = orjson.loads(request.payload)
                if op == BUNDLE:
                    calls = unbundled(payload, partition, partial(_send, request))
                else:
                    send = _send_ready if op == "decide" and READY in payload else _send
                    calls = [Call(str(op), dict(payload), int(partition), partial(send, request))]
            except (ValueError, TypeError, LookupError):
                _send(request, error("bad_request", "a request is [operation, payload, partition]", 400))
                continue
            for call in calls:
                shard.submit(call)
        if shard.n_waiting > PAUSE_ABOVE and not self._stream.paused:
            self._stream.pause()
            shard.when_room(self._stream.resume)


def _send_ready(request: Request, reply: dict[str, Any]) -> None:
    try:
        payload = packed(reply)
    except TypeError:
        payload = None
    if payload is None:
        _send(request, reply)
    else:
        request.reply(payload)


def _send(request: Request, reply: dict[str, Any]) -> None:
    try:
        payload = orjson.dumps(reply)
    except TypeError:
        # One reply that is not JSON must not take the batch it is in along.
        log.exception("a reply is not JSON")
        payload = orjson.dumps(unavailable("internal", "the reply could not be written"))
    request.reply(payload)
