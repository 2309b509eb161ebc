"""A shard and those who ask it too much, or do not take what they asked for: bounded, and fair to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from actors.frames import HEAD, NONCE_BYTES, VERSION, proof
from actors.shard_server import PAUSE_ABOVE, ShardServer
from actors.stream_client import StreamClient
from engine.ids import partition_of
from tests.actors.town import Town, scroll
from tests.engine.builders import signal

SECRET = b"s" * 32
HOME = partition_of("anon:a", 2)
T_S = 20.0


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = await Town(n_shards=1, n_partitions=2).start()
    await town.observe("anon:a", scroll(0.9), signal("page", url="https://shop.example/" + "x" * 2_000))
    yield town
    await town.stop()


@pytest.fixture
async def server(town: Town) -> AsyncIterator[ShardServer]:
    server = ShardServer(town.shards[0], SECRET, "127.0.0.1")
    await server.start()
    yield server
    await server.stop()


def asked(op: str, payload: Any, partition: int = HOME) -> bytes:
    return orjson.dumps([op, payload, partition])


async def let_in(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A peer that speaks the stream by hand."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**16)
    (size, _) = HEAD.unpack(await reader.readexactly(HEAD.size))
    server_nonce = (await reader.readexactly(size)).removeprefix(VERSION)
    nonce = b"n" * NONCE_BYTES
    answer = nonce + proof(SECRET, b"client", server_nonce, nonce)
    writer.write(HEAD.pack(len(answer), 0) + answer)
    (size, _) = HEAD.unpack(await reader.readexactly(HEAD.size))
    await reader.readexactly(size)
    return reader, writer


async def until(condition: Any) -> None:
    async with asyncio.timeout(T_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_peer_that_stops_reading_is_not_read_from_and_holds_a_bounded_memory(
    town: Town, server: ShardServer
) -> None:
    stream = server._stream
    reader, writer = await let_in(stream.address)
    (peer,) = stream.connections
    request = asked("export", {"track": "anon:a"})
    frame = HEAD.pack(len(request), 1) + request
    n_sent, most = 0, 0
    other = StreamClient(stream.address, SECRET)
    async with asyncio.timeout(T_S):
        while peer.reading:
            writer.write(frame * 20)
            n_sent += 20
            # In between others are served as ever.
            reply = orjson.loads(await other.request(asked("profile", {"track": "anon:a"}), T_S))
            assert reply["profile"]["n_signals"] == 2
            most = max(most, peer._transport.get_write_buffer_size())
    await until(lambda: not town.shards[0]._tasks or town.shards[0].n_waiting == 0)
    served = town.shards[0].told()["calls"]
    writer.write(frame * 1_000)
    for _ in range(20):
        await other.request(asked("profile", {"track": "anon:a"}), T_S)
    assert town.shards[0].told()["calls"] == served + 20
    assert peer._transport.get_write_buffer_size() < 8 * 2**20
    # It reads again: every one of its requests is answered.
    for _ in range(n_sent + 1_000):
        size, _ = HEAD.unpack(await asyncio.wait_for(reader.readexactly(HEAD.size), T_S))
        assert b'"export"' in await reader.readexactly(size)
    assert peer.reading
    writer.close()
    await other.close()


async def test_a_flood_waits_with_those_who_ask_and_all_of_it_is_answered(town: Town, server: ShardServer) -> None:
    stream, shard = server._stream, town.shards[0]
    longest, paused = 0, 0
    plain = stream.pause

    def counted() -> None:
        nonlocal paused
        paused += 1
        plain()

    stream.pause = counted  # type: ignore[method-assign]
    reader, writer = await let_in(stream.address)
    request = asked("profile", {"track": "anon:a"})
    n = 4 * PAUSE_ABOVE
    writer.write(b"".join(HEAD.pack(len(request), i) + request for i in range(n)))

    async def read_all() -> int:
        good = 0
        for _ in range(n):
            size, _ = HEAD.unpack(await reader.readexactly(HEAD.size))
            good += b'"profile"' in await reader.readexactly(size)
        return good

    reading = asyncio.ensure_future(read_all())
    while not reading.done():
        longest = max(longest, shard.n_waiting)
        await asyncio.sleep(0)
    assert await reading == n
    assert paused
    assert longest < 3 * PAUSE_ABOVE  # what waited, and one more read of the stream
    assert not stream.paused
    writer.close()


@pytest.mark.parametrize("nonsense", [b"", b"{}", b"[1]", b'["observe", 7, 0]', b"\xff\xfe"])
async def test_what_is_no_request_is_said_to_be_none_and_the_next_is_served(
    server: ShardServer, nonsense: bytes
) -> None:
    client = StreamClient(server._stream.address, SECRET)
    bad, good = await asyncio.gather(
        client.request(nonsense, T_S), client.request(asked("profile", {"track": "anon:a"}), T_S)
    )
    assert orjson.loads(bad)["error"]["code"] == "bad_request"
    assert "profile" in orjson.loads(good)
    await client.close()
