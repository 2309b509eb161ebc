"""Deciding over real streams: what was sent at once comes back, comes late, moves on, or is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from actors.memory import MemoryTable
from actors.ready_reply import packed
from actors.router import Router
from actors.stream import Request, StreamServer
from engine.ids import DecisionId, partition_of, profile_id
from serving.app import build_app
from serving.keys import KeyRing
from serving.settings import Settings
from serving.settings_branches import Deadlines
from tests.serving.house import NOW_MS, FakeWorlds

N = 4
T_S = 10.0
ID = str(DecisionId(1, 2, 3, 0))
DECIDED = {
    "decision": {"decisionId": ID, "recorded": True, "degraded": None, "profileId": profile_id("user:u")},
    "status": 200,
}  # fmt: skip


class Shards:
    """Two shards behind real streams; what arrives is kept until the test answers."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.arrived: asyncio.Queue[tuple[str, dict[str, Any], Request]] = asyncio.Queue()
        self.servers: list[StreamServer] = []
        self.table = MemoryTable()
        self.router = Router(self.table, refresh_every_s=0.001)
        app = build_app(
            self.router, FakeWorlds(), settings or Settings(), KeyRing(), clock=lambda: NOW_MS, message_key=b"k" * 32,
            dice=random.Random(1),
        )  # fmt: skip
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1")

    async def start(self) -> None:
        held = await self.table.create(N)
        secret = await self.table.secret("stream")
        for shard in range(2):
            server = StreamServer(self._take, secret)
            await self.table.announce(shard, await server.start(), held.version)
            self.servers.append(server)
        new = replace(held, owners=tuple(p % 2 for p in range(N)))
        assert await self.table.compare_and_set(held.version, new)
        # The first request opens the stream by the patient way; those after it are sent at once.
        for shard in range(2):
            warm = asyncio.ensure_future(self.router.ask_partition(shard, "stats", {}, timeout_s=T_S))
            await self.answer({"at": shard})
            await warm

    def _take(self, batch: list[Request]) -> None:
        for request in batch:
            op, payload, _ = orjson.loads(request.payload)
            self.arrived.put_nowait((op, payload, request))

    async def next(self) -> tuple[str, dict[str, Any], Request]:
        return await asyncio.wait_for(self.arrived.get(), T_S)

    async def answer(self, reply: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        op, payload, request = await self.next()
        request.reply(orjson.dumps(reply))
        return op, payload

    def decide(self, **more: Any) -> asyncio.Future[httpx.Response]:
        body = {"anonymousId": "a", "placement": "home", "deadlineMs": 10_000, **more}
        return asyncio.ensure_future(self.http.post("/v1/decide", json=body))

    async def stop(self) -> None:
        await self.http.aclose()
        await self.router.close()
        for server in self.servers:
            await server.stop()


@pytest.fixture
async def shards() -> AsyncIterator[Shards]:
    found = Shards()
    await found.start()
    yield found
    await found.stop()


async def test_a_decision_comes_back_by_the_frame_that_was_sent(shards: Shards) -> None:
    assert shards.router.begin("anon:x", "stats", {}) is not None
    await shards.answer({})
    deciding = shards.decide()
    assert (await shards.answer(DECIDED))[0] == "decide"
    reply = await deciding
    assert reply.json()["decisionId"] == ID
    assert "shard;dur=" in reply.headers["server-timing"]


async def test_a_decision_that_comes_late_is_superseded(shards: Shards) -> None:
    deciding = shards.decide(deadlineMs=1)
    _, _, request = await shards.next()
    reply = (await deciding).json()
    assert (reply["recorded"], reply["degraded"]) == (False, {"rung": "tier1", "reason": "DEADLINE"})
    request.reply(orjson.dumps(DECIDED))
    op, payload = await shards.answer({"status": "superseded"})
    assert (op, payload["decision_id"], payload["track"]) == ("supersede", ID, "user:u")


async def test_a_client_that_leaves_has_its_decision_superseded(shards: Shards) -> None:
    deciding = shards.decide()
    _, _, request = await shards.next()
    deciding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deciding
    request.reply(orjson.dumps(DECIDED))
    assert (await shards.answer({"status": "superseded"}))[0] == "supersede"


async def test_a_decision_goes_on_to_where_the_track_has_moved(shards: Shards) -> None:
    deciding = shards.decide()
    # What was sent at once is asked again the patient way, which follows and remembers.
    await shards.answer({"moved": "user:u"})
    await shards.answer({"moved": "user:u"})
    await shards.answer(DECIDED)
    assert (await deciding).json()["decisionId"] == ID
    assert shards.router.hints.at("anon:a") == "user:u"


async def test_a_partition_that_recovers_is_asked_until_it_has(shards: Shards) -> None:
    deciding = shards.decide()
    await shards.answer({"unavailable": {"code": "recovering", "message": "…"}})
    await shards.answer(DECIDED)
    assert (await deciding).json()["decisionId"] == ID


async def test_a_shard_that_cannot_is_answered_for(shards: Shards) -> None:
    deciding = shards.decide()
    await shards.answer({"unavailable": {"code": "archive_full", "message": "…"}})
    assert (await deciding).json()["degraded"] == {"rung": "tier1", "reason": "ARCHIVE_FULL"}


@pytest.mark.parametrize("request_id", [None, "r-1"])
async def test_a_lost_stream_is_asked_again_only_where_an_id_makes_it_repeatable(
    shards: Shards, request_id: str | None
) -> None:
    more = {} if request_id is None else {"requestId": request_id}
    deciding = shards.decide(**more)
    _, _, request = await shards.next()
    request.connection.abort()
    if request_id is None:
        assert (await deciding).json()["degraded"] == {"rung": "tier1", "reason": "SHARD_UNAVAILABLE"}
        return
    assert (await shards.answer(DECIDED))[1]["request_id"] == request_id
    assert (await deciding).json()["decisionId"] == ID


async def test_without_a_stream_nothing_is_sent_at_once(shards: Shards) -> None:
    home = partition_of("anon:a", N) % 2
    await shards.servers[home].stop()
    reply = (await shards.decide(deadlineMs=50)).json()
    assert reply["degraded"]["rung"] == "tier1"


def batch(*names: str) -> dict[str, Any]:
    rows = [{"type": "track", "event": "Clicked", "anonymousId": n, "messageId": f"m-{n}"} for n in names]
    return {"batch": rows}


def opened(frame: bytes) -> tuple[str, list[dict[str, Any]]]:
    """What was asked together, as each would have been alone."""
    kind, (op, shared), parts = orjson.loads(frame)
    assert kind == "bundle"
    return op, [{**shared[common], **own} for _, common, own in parts]


async def test_a_batch_of_many_visitors_is_one_frame_to_a_shard_and_what_moved_is_asked_again(shards: Shards) -> None:
    posting = asyncio.ensure_future(shards.http.post("/v1/batch", json=batch("a", "b", "c", "d")))
    answers: dict[str, dict[str, Any]] = {
        "anon:a": {"results": ["accepted"]}, "anon:b": {"results": ["duplicate"]}, "anon:c": {"moved": "user:u"},
        "anon:d": {"error": {"code": "bad_thing", "message": "…", "status": 400}},
    }  # fmt: skip
    asked = []
    for _ in range(2):
        _, _, request = await shards.next()
        op, payloads = opened(request.payload)
        assert op == "observe"
        assert all(
            p["consent"]["analytics"] and p["received_ms"] == NOW_MS and p["backfill"] is False for p in payloads
        )
        asked += [payload["track"] for payload in payloads]
        request.reply(orjson.dumps({"answers": [answers[payload["track"]] for payload in payloads]}))
    assert sorted(asked) == sorted(answers)
    await shards.answer({"moved": "user:u"})
    await shards.answer({"results": ["accepted"]})
    reply = await posting
    counts = reply.json()
    assert (reply.status_code, counts["accepted"], counts["duplicates"]) == (200, 2, 1)
    assert [(r["index"], r["code"]) for r in counts["rejected"]] == [(3, "bad_thing")]


async def test_what_has_to_wait_in_a_shard_is_asked_for_alone(shards: Shards) -> None:
    posting = asyncio.ensure_future(shards.http.post("/v1/batch", json=batch("a", "b", "c", "d")))
    waits = {"unavailable": {"code": "recovering", "message": "it has to wait"}}
    for _ in range(2):
        _, _, request = await shards.next()
        _, payloads = opened(request.payload)
        told = [waits if p["track"] == "anon:c" else {"results": ["accepted"]} for p in payloads]
        request.reply(orjson.dumps({"answers": told}))
    op, payload = await shards.answer({"results": ["accepted"]})
    assert (op, payload["track"]) == ("observe", "anon:c")
    assert (await posting).json()["accepted"] == 4


async def test_each_event_goes_with_its_own_context(shards: Shards) -> None:
    body = batch("a", "b", "c", "d")
    for row, save in zip(body["batch"], (1, True, None, True), strict=True):
        row["context"] = {} if save is None else {"network": {"saveData": save}}
    posting = asyncio.ensure_future(shards.http.post("/v1/batch", json=body))
    saves = {}
    for _ in range(2):
        _, _, request = await shards.next()
        _, payloads = opened(request.payload)
        saves |= {payload["track"]: payload["context"]["save_data"] for payload in payloads}
        request.reply(orjson.dumps({"answers": [{"results": ["accepted"]}] * len(payloads)}))
    await posting
    assert saves == {"anon:a": False, "anon:b": True, "anon:c": False, "anon:d": True}


async def test_what_does_not_come_back_in_time_is_not_acknowledged() -> None:
    shards = Shards(Settings(deadlines=Deadlines(observe_ms=50)))
    await shards.start()
    posting = asyncio.ensure_future(shards.http.post("/v1/batch", json=batch("a", "b")))
    _, _, request = await shards.next()
    _, (first,) = opened(request.payload)
    request.reply(orjson.dumps({"answers": [{"results": ["accepted"]}]}))
    reply = await posting
    counts = reply.json()
    assert (reply.status_code, counts["accepted"], counts["reason"]) == (503, 1, "deadline_exceeded")
    assert first["track"] in ("anon:a", "anon:b")
    await shards.stop()


async def test_a_body_that_is_ready_is_sent_as_the_shard_wrote_it(shards: Shards) -> None:
    deciding = shards.decide()
    _, payload, request = await shards.next()
    assert payload["ready"] is True
    body = packed(DECIDED)
    assert body is not None
    request.reply(body)
    reply = await deciding
    assert reply.content == orjson.dumps(DECIDED["decision"])
    metrics = (await shards.http.get("/metrics")).text
    assert 'kairos_decisions_total{rung="model"} 1.0' in metrics


async def test_a_ready_body_that_comes_late_is_superseded_too(shards: Shards) -> None:
    deciding = shards.decide(deadlineMs=1)
    _, _, request = await shards.next()
    await deciding
    request.reply(packed(DECIDED) or b"")
    op, payload = await shards.answer({"status": "superseded"})
    assert (op, payload["decision_id"]) == ("supersede", ID)


async def test_where_signals_come_along_the_answer_is_looked_into(shards: Shards) -> None:
    deciding = shards.decide(signals=[{"event": "Clicked"}, {"event": 7}])
    _, payload, request = await shards.next()
    assert "ready" not in payload
    told = {**DECIDED["decision"], "signals": {"accepted": 1, "duplicates": 0, "rejected": []}}
    request.reply(orjson.dumps({"decision": told, "status": 200}))
    assert [r["index"] for r in (await deciding).json()["signals"]["rejected"]] == [1]
