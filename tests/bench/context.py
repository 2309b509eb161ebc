"""What normalising a context costs, in µs a request: `python -m tests.bench.context`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

from serving.agents import AgentReader
from serving.context import ContextReader, Hints

N = 20_000
NOW_MS = 1_714_564_800_000
PHONE = (
    "Mozilla/5.0 (Linux; Android 14; Pixel {i}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{i}.0.0.0 "
    "Mobile Safari/537.36"
)
BRANDS = '"Chromium";v="124", "Google Chrome";v="124", "Not-A.Brand";v="99"'
BODY = {
    "userAgentData": {"mobile": True, "platform": "Android"}, "network": {"effectiveType": "4g", "rtt": 50},
    "locale": "de-DE", "timezone": "Europe/Berlin", "location": {"latitude": 52.5, "longitude": 13.4},
}  # fmt: skip


def each_us(work: Callable[[int], object], n: int) -> float:
    """Microseconds a call, the least of three rounds."""
    best = float("inf")
    for _ in range(3):
        started = perf_counter()
        for i in range(n):
            work(i)
        best = min(best, perf_counter() - started)
    return best / n * 1e6


def main() -> None:
    """Show what each part costs."""
    reader, agents = ContextReader(), AgentReader()
    hints = Hints(user_agent=PHONE.format(i=9), mobile="?1", platform='"Android"', brands=BRANDS, language="de-DE")
    plain = Hints(user_agent=PHONE.format(i=9), language="de-DE")
    reader.read({}, hints, NOW_MS)
    agents.read(PHONE.format(i=0))
    rows = [
        ("nothing known", each_us(lambda i: reader.read(None, Hints(), NOW_MS), N)),
        ("agent known", each_us(lambda i: reader.read({}, plain, NOW_MS), N)),
        ("agent known, client hints", each_us(lambda i: reader.read({}, hints, NOW_MS), N)),
        ("agent known, client hints, full context", each_us(lambda i: reader.read(BODY, hints, NOW_MS), N)),
        ("an agent never seen", each_us(lambda i: agents._read(PHONE.format(i=i)), 2_000)),
    ]
    for name, us in rows:
        sys.stdout.write(f"{name:42} {us:8.1f} µs\n")


if __name__ == "__main__":
    main()
