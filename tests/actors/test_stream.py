"""The direct stream: authenticated, bounded, many requests in flight, and well again after its other end was killed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from actors.frames import HEAD
from actors.stream import Request, StreamServer
from actors.stream_client import StreamClient
from engine.errors import InvalidInput, TooLarge, Unavailable

SECRET = b"s" * 32
T_S = 10.0

ECHO = """
import asyncio, sys
from actors.stream import StreamServer
async def main():
    server = StreamServer(lambda batch: [r.reply(r.payload) for r in batch if r.payload != b"hold"], b"s" * 32,
                          port=int(sys.argv[1]))
    print(await server.start(), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Held:
    """A server that keeps what it is asked until the test lets it answer."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.batches: list[int] = []
        self._changed = asyncio.Event()

    def __call__(self, batch: list[Request]) -> None:
        self.requests += batch
        self.batches.append(len(batch))
        self._changed.set()

    async def has(self, n: int) -> None:
        while len(self.requests) < n:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), T_S)


def echo(batch: list[Request]) -> None:
    for request in batch:
        request.reply(b"re:" + request.payload)


Join = Callable[..., Awaitable[tuple[StreamServer, StreamClient]]]


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    """Makes a server and a client of it; both are closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(handler: object, client: dict[str, object] | None = None, **server: object):  # type: ignore[no-untyped-def]
            listening = StreamServer(handler, SECRET, **server)  # type: ignore[arg-type]
            asking = StreamClient(await listening.start(), SECRET, **(client or {}))  # type: ignore[arg-type]
            stack.push_async_callback(listening.stop)
            stack.push_async_callback(asking.close)
            return listening, asking

        yield make


async def test_each_answer_finds_its_request(join: Join) -> None:
    _, client = await join(echo)
    answers = await asyncio.gather(*(client.request(b"%d" % i, T_S) for i in range(500)))
    assert answers == [b"re:%d" % i for i in range(500)]
    assert client.n_connects == 1
    assert client.n_in_flight == 0


async def test_answers_may_come_in_any_order(join: Join) -> None:
    held = Held()
    _, client = await join(held)
    asked = [asyncio.ensure_future(client.request(b"%d" % i, T_S)) for i in range(10)]
    await held.has(10)
    for request in reversed(held.requests):
        request.reply(b"re:" + request.payload)
    assert await asyncio.gather(*asked) == [b"re:%d" % i for i in range(10)]


async def test_requests_of_one_turn_arrive_as_one_batch(join: Join) -> None:
    held = Held()
    _, client = await join(held)
    await client.ready(T_S)
    asked = [asyncio.ensure_future(client.request(b"%d" % i, T_S)) for i in range(64)]
    await held.has(64)
    assert held.batches == [64]
    for request in held.requests:
        request.reply(b"ok")
    await asyncio.gather(*asked)


async def test_a_frame_larger_than_one_read_arrives_whole(join: Join) -> None:
    _, client = await join(echo)
    big = bytes(range(256)) * 8192
    assert await client.request(big, T_S) == b"re:" + big


async def test_no_answer_in_time_is_said_and_the_late_answer_is_dropped(join: Join) -> None:
    held = Held()
    _, client = await join(held)
    with pytest.raises(Unavailable) as late:
        await client.request(b"slow", 0.02)
    assert late.value.code == "deadline_exceeded"
    await held.has(1)
    asked = asyncio.ensure_future(client.request(b"next", T_S))
    await held.has(2)
    for request in held.requests:
        request.reply(b"re:" + request.payload)
    assert await asked == b"re:next"
    assert client.n_in_flight == 0


async def test_a_client_with_another_secret_is_refused(join: Join) -> None:
    held = Held()
    server, _ = await join(held)
    assert server.connections == set()
    stranger = StreamClient(server.address, b"x" * 32)
    with pytest.raises(Unavailable, match="is the secret the same") as refused:
        await stranger.request(b"let me in", T_S)
    assert refused.value.code == "not_connected"
    assert held.requests == []
    await stranger.close()


async def test_a_server_that_does_not_know_the_secret_gets_no_request() -> None:
    got = bytearray()

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = b"kairos-stream-1\n" + b"n" * 32
        writer.write(HEAD.pack(len(hello), 0) + hello)
        head = await reader.readexactly(HEAD.size)
        answer = await reader.readexactly(HEAD.unpack(head)[0])
        writer.write(HEAD.pack(32, 0) + answer[32:])  # the client's own proof, handed back
        got.extend(await reader.read())
        writer.close()

    server = await asyncio.start_server(impostor, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    client = StreamClient(f"{host}:{port}", SECRET)
    with pytest.raises(Unavailable, match="does not know the secret"):
        await client.request(b"card number", T_S)
    await client.close()
    server.close()
    await server.wait_closed()
    assert got == b""


async def test_requests_before_the_proof_are_not_read(join: Join) -> None:
    held = Held()
    server, _ = await join(held)
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(HEAD.pack(4, 1) + b"evil" + HEAD.pack(4, 2) + b"evil")
    with contextlib.suppress(ConnectionError):
        await reader.read()
        while await reader.read(1000):
            pass
    writer.close()
    assert held.requests == []
    assert server.connections == set()


async def test_a_silent_stranger_is_dropped_after_the_time_for_the_handshake(join: Join) -> None:
    server, _ = await join(echo, handshake_within_s=0.02)
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(1000), T_S):
            pass
    assert server.connections == set()
    writer.close()


async def test_more_connections_than_allowed_are_turned_away(join: Join) -> None:
    server, first = await join(echo, max_connections=1)
    await first.ready(T_S)
    second = StreamClient(server.address, SECRET)
    with pytest.raises(Unavailable):
        await second.request(b"x", T_S)
    assert await first.request(b"x", T_S) == b"re:x"
    await second.close()


async def test_an_over_long_request_is_not_sent(join: Join) -> None:
    held = Held()
    _, client = await join(held, {"max_frame_bytes": 100})
    with pytest.raises(TooLarge):
        await client.request(b"x" * 101, T_S)
    assert held.requests == []


async def test_an_over_long_frame_ends_the_stream_it_came_on(join: Join, caplog: pytest.LogCaptureFixture) -> None:
    _, client = await join(echo, max_frame_bytes=100)
    assert await client.request(b"x" * 90, T_S)
    with pytest.raises(Unavailable) as lost:
        await client.request(b"x" * 101, T_S)
    assert lost.value.code == "connection_lost"
    assert "101 bytes" in caplog.text
    await client.ready(T_S)
    assert await client.request(b"small", T_S) == b"re:small"


async def test_an_over_long_answer_fails_its_request_and_no_other(join: Join, caplog: pytest.LogCaptureFixture) -> None:
    def bloat(batch: list[Request]) -> None:
        for request in batch:
            request.reply(b"x" * int(request.payload))

    _, client = await join(bloat, max_frame_bytes=1000)
    with caplog.at_level(logging.CRITICAL, "kairos.stream"), pytest.raises(TooLarge):
        await client.request(b"1001", T_S)
    assert len(await client.request(b"1000", T_S)) == 1000
    assert client.n_connects == 1


async def test_more_requests_than_may_be_in_flight_are_refused_at_once(join: Join) -> None:
    held = Held()
    _, client = await join(held, {"max_in_flight": 8})
    await client.ready(T_S)
    asked = [asyncio.ensure_future(client.request(b"x", T_S)) for _ in range(8)]
    await held.has(8)
    with pytest.raises(Unavailable) as refused:
        await client.request(b"one too many", T_S)
    assert refused.value.code == "overloaded"
    for request in held.requests:
        request.reply(b"ok")
    assert await asyncio.gather(*asked) == [b"ok"] * 8
    assert len(held.requests) == 8


async def test_a_paused_server_takes_a_bounded_flood_and_answers_all_of_it_when_it_resumes(join: Join) -> None:
    held = Held()
    server, client = await join(held, {"max_in_flight": 10_000, "max_queued_bytes": 4 << 20})
    await client.ready(T_S)
    asked = [asyncio.ensure_future(client.request(b"first", T_S))]
    await held.has(1)
    server.pause()
    refused = 0
    payload = b"x" * 100_000
    for _ in range(400):  # 40 MB: more than the kernel's buffers and the client's bound
        asked.append(asyncio.ensure_future(client.request(payload, 60.0)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    refused = sum(1 for a in asked if a.done() and isinstance(a.exception(), Unavailable))
    assert refused > 0
    assert len(held.requests) == 1
    server.resume()
    await held.has(len(asked) - refused)
    for request in held.requests:
        request.reply(b"ok")
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers.count(b"ok") == len(asked) - refused
    assert client.n_connects == 1


async def test_an_asker_that_does_not_read_its_answers_is_not_read_from(join: Join) -> None:
    def bloat(batch: list[Request]) -> None:
        seen.append(len(batch))
        for request in batch:
            request.reply(b"x" * 1_000_000)

    seen: list[int] = []
    server, client = await join(bloat)
    await client.ready(T_S)
    [theirs] = server.connections
    client._connection.transport.pause_reading()  # type: ignore[union-attr]
    asked = []
    while theirs.reading:
        asked.append(asyncio.ensure_future(client.request(b"x", T_S)))
        await asyncio.sleep(0)
    n_taken = sum(seen)
    asked += [asyncio.ensure_future(client.request(b"x", T_S)) for _ in range(20)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert sum(seen) <= n_taken + 1
    client._connection.transport.resume_reading()  # type: ignore[union-attr]
    assert {len(answer) for answer in await asyncio.gather(*asked)} == {1_000_000}


def started(port: int = 0) -> tuple[subprocess.Popen[str], str]:
    server = subprocess.Popen([sys.executable, "-c", ECHO, str(port)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, server.stdout.readline().strip()


def ended(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.communicate()


async def test_a_killed_server_fails_what_is_in_flight_and_is_found_again_when_it_is_back() -> None:
    server, address = started()
    client = StreamClient(address, SECRET)
    assert await client.request(b"one", T_S) == b"one"
    asked = [asyncio.ensure_future(client.request(b"hold", T_S)) for _ in range(5)]
    assert await client.request(b"two", T_S) == b"two"
    ended(server)
    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert [getattr(failure, "code", failure) for failure in failures] == ["connection_lost"] * 5
    with pytest.raises(Unavailable) as gone:
        await client.request(b"three", T_S)
    assert gone.value.code == "not_connected"
    server, _ = started(int(address.split(":")[1]))
    await client.ready(T_S)
    assert await client.request(b"four", T_S) == b"four"
    assert client.n_connects == 2
    await client.close()
    ended(server)


async def test_asking_where_nobody_listens_fails_at_once() -> None:
    server = StreamServer(echo, SECRET)
    address = await server.start()
    await server.stop()
    client = StreamClient(address, SECRET)
    with pytest.raises(Unavailable) as refused:
        await client.request(b"x", T_S)
    assert refused.value.code == "not_connected"
    await client.close()


async def test_a_retired_client_gets_its_answers_and_then_closes(join: Join) -> None:
    held = Held()
    server, client = await join(held)
    asked = asyncio.ensure_future(client.request(b"last", T_S))
    await held.has(1)
    client.retire()
    held.requests[0].reply(b"ok")
    assert await asked == b"ok"
    await asyncio.wait_for(held.requests[0].connection.gone, T_S)
    assert server.connections == set()
    with pytest.raises(Unavailable):
        await client.request(b"more", T_S)


async def test_closing_the_client_fails_what_is_in_flight(join: Join) -> None:
    held = Held()
    _, client = await join(held)
    asked = asyncio.ensure_future(client.request(b"x", T_S))
    await held.has(1)
    await client.close()
    with pytest.raises(Unavailable, match="was lost"):
        await asked


async def test_a_stopping_server_still_sends_what_it_has_answered(join: Join) -> None:
    held = Held()
    server, client = await join(held)
    asked = asyncio.ensure_future(client.request(b"x", T_S))
    await held.has(1)
    held.requests[0].reply(b"just in time")
    await server.stop()
    assert await asked == b"just in time"
    held.requests[0].reply(b"too late, and harmless")


def test_it_works_on_uvloop_as_well() -> None:
    async def ask() -> None:
        server = StreamServer(echo, SECRET)
        client = StreamClient(await server.start(), SECRET)
        big = b"x" * 3_000_000
        answers = await asyncio.gather(*(client.request(b"%d" % i, T_S) for i in range(100)), client.request(big, T_S))
        assert answers == [b"re:%d" % i for i in range(100)] + [b"re:" + big]
        await client.close()
        await server.stop()

    uvloop.run(ask())


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_a_stream_does_not_listen_on_all_addresses(host: str) -> None:
    with pytest.raises(InvalidInput):
        StreamServer(echo, SECRET, host=host)
