"""How much Python the ingress costs: `python -m tests.bench.ingress` (no transport, a shard that answers at once)."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Mapping
from typing import Any

import orjson

from actors.begun import Begun
from actors.bundle import bundled
from engine.ids import partition_of
from serving.app import build_app
from serving.keys import KeyRing, parse_environment
from serving.settings import Settings
from tests.serving.house import FakeWorlds

AGENT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Mobile/15E148 Safari/604.1"
)
CONTEXT = {
    "userAgent": AGENT,
    "locale": "de-DE",
    "timezone": "Europe/Berlin",
    "network": {"effectiveType": "4g"},
    "page": {"url": "https://shop.example/shoes"},
}
EVENT = {
    "type": "track",
    "anonymousId": "a-1",
    "messageId": "m-1",
    "event": "Scroll Depth",
    "timestamp": "2024-05-01T12:00:00.000Z",
    "context": CONTEXT,
    "properties": {"url": "https://shop.example/shoes", "scroll_px": 840, "scroll_share": 0.72},
}
DECIDE = {
    "anonymousId": "a-1",
    "placement": "product_page",
    "requestId": "r-1",
    "context": CONTEXT,
    "base": [{"id": f"b{i}", "score": 0.4, "content": {"headline": "New in"}} for i in range(3)],
    "limit": 3,
}
DECISION = {
    "decisionId": "d_17_3_1204_0", "recorded": True, "profileId": "p_YW5vbjphLTE", "placement": "product_page",
    "items": [{"id": f"b{i}", "kind": "base", "content": {"headline": "New in"}, "score": 0.4, "propensity": 1.0,
               "reason": "TIER1"} for i in range(3)],
    "segments": ["high_intent"], "treatment": {"layout": "compact", "media": "standard"},
    "score": {"value": 0.61, "recency": 0.98, "depth": 0.84, "conversion": 0.3,
              "weights": {"recency": 0.3, "depth": 0.2, "conversion": 0.5}, "stage": "engaged"},
    "risk": {"conversion": 0.3, "churn": 0.12}, "next": {"offer": "free_shipping", "uplift": 0.06},
    "model": {"version": "prior-1", "arm": "champion"}, "holdout": False, "variants": {}, "degraded": None,
}  # fmt: skip
ANSWER = orjson.dumps({"decision": DECISION, "status": 200})
HEADERS = [
    (b"host", b"127.0.0.1:8000"), (b"user-agent", b"bench"), (b"accept", b"*/*"),
    (b"authorization", b"Bearer bench-key-1"), (b"content-type", b"application/json"),
]  # fmt: skip


class Instant:
    """A shard that answers before it is asked."""

    def begin(self, track_id: str, op: str, payload: Mapping[str, Any]) -> Begun:
        orjson.dumps([op, payload, partition_of(track_id, 64)])
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(ANSWER)
        return Begun({1: answer}, 1)

    def begin_together(self, op: str, shared: Any, asked: Any) -> tuple[list[tuple[Begun, list[int]]], list[int]]:
        bundled(op, shared, [(partition_of(track, 64), common, own) for track, common, own in asked])
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(
            orjson.dumps({"answers": [{"results": ["accepted"] * len(o["signals"])} for _, _, o in asked]})
        )
        return [(Begun({1: answer}, 1), list(range(len(asked))))], []

    async def ask(self, track_id: str, op: str, payload: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        return {"results": ["accepted"] * len(payload["signals"])}

    async def ask_partition(
        self, partition: int, op: str, payload: Mapping[str, Any], *, timeout_s: float
    ) -> dict[str, Any]:
        return {}


async def _measure(path: str, content: Any, n: int) -> float:
    """Median microseconds of a call over 20 rounds."""
    app = build_app(
        Instant(), FakeWorlds(), Settings(), KeyRing(parse_environment("admin:bench-key-1")),
        clock=lambda: int(time.time() * 1000), message_key=b"k" * 32, dice=random.Random(1),
    )  # fmt: skip
    body = orjson.dumps(content)
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": HEADERS}
    message = {"type": "http.request", "body": body, "more_body": False}
    statuses: set[int] = set()

    async def receive() -> Any:
        return message

    async def send(sent: Any) -> None:
        if sent["type"] == "http.response.start":
            statuses.add(sent["status"])

    rounds = []
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(n):
            await app(scope, receive, send)
        rounds.append((time.perf_counter() - started) / n * 1e6)
    assert statuses == {200}, statuses
    return statistics.median(rounds)


def main() -> None:
    """Print the figures."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        decide = runner.run(_measure("/v1/decide", DECIDE, 1000))
        with_signal = runner.run(_measure("/v1/decide", {**DECIDE, "signals": [EVENT]}, 1000))
        one = runner.run(_measure("/v1/batch", {"batch": [EVENT]}, 1000))
        many = runner.run(_measure("/v1/batch", {"batch": [EVENT] * 100}, 20))
        visitors = [{**EVENT, "anonymousId": f"a-{i}", "messageId": f"m-{i}"} for i in range(100)]
        others = runner.run(_measure("/v1/batch", {"batch": visitors}, 20))
    print(f"decide                 {decide:6.1f} µs")
    print(f"decide with one signal {with_signal:6.1f} µs")
    print(f"batch of one event     {one:6.1f} µs")
    print(f"batch of 100 events    {many:6.1f} µs, {many / 100:.1f} µs an event")
    print(f"of 100 visitors        {others:6.1f} µs, {others / 100:.1f} µs an event")


if __name__ == "__main__":
    main()
