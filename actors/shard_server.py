"""The shard's end of the streams: requests into the inbox, replies back as frames."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson

from actors.call import Call
from actors.shard import SessionShard
from actors.stream import Request, StreamServer


class ShardServer:
    """Serves one shard on one address."""

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
        for request in requests:
            op, payload, partition = orjson.loads(request.payload)
            self._shard.submit(Call(op, payload, partition, partial(_send, request)))


def _send(request: Request, reply: dict[str, Any]) -> None:
    request.reply(orjson.dumps(reply))
