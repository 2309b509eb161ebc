"""A connection to Valkey for appends alone: one write for a batch of XADDs, and next to nothing spent on the replies.

redis-py takes some 15 µs for each XADD of a pipeline, this takes 2 (`tests/bench/journal.py`), and a shard sends one
for each partition that a batch touches. It speaks RESP2: bulk strings, simple strings and errors, which is all that
AUTH, SELECT and XADD answer with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import cast

from redis.asyncio import Redis, SSLConnection

from actors.stores import APPENDED, AppendResult, Entry, Fenced, Refused, Uncertain
from actors.valkey_client import journal_key


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect and what to say first."""

    path: str | None
    host: str
    port: int
    greeting: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, client: Redis) -> Target | None:
        """Where a client connects; None where only redis-py knows how (TLS, credential providers)."""
        pool = client.connection_pool
        known = pool.connection_kwargs
        if issubclass(pool.connection_class, SSLConnection) or known.get("credential_provider"):
            return None
        greeting = []
        if known.get("password") is not None:
            user = [known["username"]] if known.get("username") else []
            greeting.append(command(b"AUTH", *(part.encode() for part in user), known["password"].encode()))
        if int(known.get("db") or 0):
            greeting.append(command(b"SELECT", b"%d" % int(known["db"])))
        return cls(known.get("path"), known.get("host", "localhost"), int(known.get("port", 6379)), tuple(greeting))


def command(*parts: bytes) -> bytes:
    """A command as it goes over the wire.

    >>> command(b"SELECT", b"1")
    b'*2\\r\\n$6\\r\\nSELECT\\r\\n$1\\r\\n1\\r\\n'
    """
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


@dataclass(slots=True)
class _Batch:
    """Commands that were sent together and what has been answered to them so far."""

    n: int
    done: asyncio.Future[list[AppendResult]]
    results: list[AppendResult] = field(default_factory=list)

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(self.results)


class AppendLine:
    """Verbs: append, close. Connects when it has to; a line that broke fails what is on it as `Uncertain`."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        self._target, self._timeout_s = target, timeout_s
        self._wire: _Wire | None = None
        self._connecting = asyncio.Lock()

    def append(self, entries: Sequence[Entry]) -> Awaitable[list[AppendResult]]:
        """See `Journal.append`; over a line that stands the entries are sent at once."""
        if self._wire is not None and self._wire.alive:
            return self._wire.send([_xadd(entry) for entry in entries])
        return self._connected(entries)

    async def _connected(self, entries: Sequence[Entry]) -> list[AppendResult]:
        try:
            wire = await self._connect()
        except (OSError, TimeoutError) as error:
            return [Uncertain(f"no connection to the store: {error}")] * len(entries)
        return await wire.send([_xadd(entry) for entry in entries])

    async def _connect(self) -> _Wire:
        async with self._connecting:
            if self._wire is not None and self._wire.alive:
                return self._wire
            loop, target = asyncio.get_running_loop(), self._target
            async with asyncio.timeout(self._timeout_s):
                if target.path is not None:
                    _, wire = await loop.create_unix_connection(lambda: _Wire(loop, self._timeout_s), target.path)
                else:
                    _, wire = await loop.create_connection(
                        lambda: _Wire(loop, self._timeout_s), target.host, target.port
                    )
                for result in await wire.send(target.greeting) if target.greeting else []:
                    if result is not APPENDED:
                        wire.close()
                        raise ConnectionError(f"{result}")
            self._wire = wire
            return wire

    async def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            await self._wire.lost
            self._wire = None


class _Wire(asyncio.Protocol):
    """One connection; replies come in the order of the commands."""

    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._loop, self._timeout_s = loop, timeout_s
        self._batches: deque[_Batch] = deque()
        self._rest = b""
        self.alive = False
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are not registered as such
        self._transport, self.alive = transport, True

    def send(self, commands: Sequence[bytes]) -> asyncio.Future[list[AppendResult]]:
        batch = _Batch(len(commands), self._loop.create_future())
        if not self.alive:
            batch.done.set_result([Uncertain("the connection to the store was lost")] * len(commands))
            return batch.done
        self._batches.append(batch)
        self._transport.write(b"".join(commands))
        timer = self._loop.call_later(self._timeout_s, self.close)
        batch.done.add_done_callback(lambda _: timer.cancel())
        return batch.done

    def data_received(self, data: bytes) -> None:
        """Count off the replies; a cancelled append still has its replies taken from the line."""
        buffer = self._rest + data if self._rest else data
        at = 0
        while (line_end := buffer.find(b"\r\n", at)) >= 0:
            kind = buffer[at : at + 1]
            if kind == b"$":
                end = line_end + 4 + int(buffer[at + 1 : line_end])
                if end > len(buffer):
                    break
                result: AppendResult = APPENDED
            else:
                end = line_end + 2
                result = refusal(buffer[at + 1 : line_end].decode(errors="replace")) if kind == b"-" else APPENDED
            self._answered(result)
            at = end
        self._rest = buffer[at:]

    def _answered(self, result: AppendResult) -> None:
        batch = self._batches[0]
        batch.results.append(result)
        if len(batch.results) == batch.n:
            self._batches.popleft().finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        for batch in self._batches:
            batch.results += [Uncertain(f"the connection to the store was lost: {exc or 'closed'}")] * (
                batch.n - len(batch.results)
            )
            batch.finish()
        self._batches.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def close(self) -> None:
        self.alive = False
        self._transport.abort()


def _xadd(entry: Entry) -> bytes:
    key, payload = journal_key(entry.partition).encode(), entry.payload
    entry_id = b"%d-%d" % (entry.epoch, entry.seq)
    return b"*5\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$1\r\nb\r\n$%d\r\n%b\r\n" % (
        len(key), key, len(entry_id), entry_id, len(payload), payload,
    )  # fmt: skip


def refusal(message: str, code: str = "") -> AppendResult:
    """What an error of the server means for the entry: fenced by its id, or refused for another reason."""
    if "equal or smaller" in message or "must be greater than 0-0" in message:
        return Fenced(message)
    return Refused(code or message.partition(" ")[0], message)
