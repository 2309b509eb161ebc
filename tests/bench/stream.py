"""What a round trip over the stream costs: `python -m tests.bench.stream` (two processes, 700 B out, 900 B back)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import uvloop

from actors.stream import Request, StreamServer
from actors.stream_client import StreamClient

SECRET = b"s" * 32
ASKED, ANSWERED = b"x" * 700, b"y" * 900


def answer(batch: list[Request]) -> None:
    for request in batch:
        request.reply(ANSWERED)


async def serve() -> None:
    print(await StreamServer(answer, SECRET).start(), flush=True)
    await asyncio.Event().wait()


async def measure(client: StreamClient, concurrency: int, n_each: int) -> None:
    lasted: list[float] = []

    async def ask() -> None:
        for _ in range(n_each):
            began = time.perf_counter()
            await client.request(ASKED, 5.0)
            lasted.append(time.perf_counter() - began)

    began, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(ask() for _ in range(concurrency)))
    rate, cpu_us = len(lasted) / (time.perf_counter() - began), (time.process_time() - cpu_s) / len(lasted) * 1e6
    lasted.sort()
    p50, p99 = (lasted[int(len(lasted) * share)] * 1e6 for share in (0.5, 0.99))
    print(f"c={concurrency:3}: {rate:7.0f}/s  p50 {p50:4.0f} µs  p99 {p99:5.0f} µs  CPU of the asker {cpu_us:4.1f} µs")


async def ask_all(address: str) -> None:
    client = StreamClient(address, SECRET)
    await client.ready(5.0)
    for concurrency, n_each in ((1, 200), (1, 4000), (64, 600), (64, 600)):
        await measure(client, concurrency, n_each)
    await client.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        uvloop.run(serve())
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.stream", "serve"], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        try:
            uvloop.run(ask_all(other.stdout.readline().strip()))
        finally:
            other.kill()
