"""The demo's loop tells each thing once, in order, and acts where its chapters say so."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from engine.book import compile_book
from serving import demo_bad, demo_loop
from serving.books import read_book
from serving.demo_bad import Bad
from serving.demo_loop import COMPRESSED, Loop, compressed_book
from serving.demo_news import News
from serving.settings import load_settings


def rollout(n: int, phase: str) -> dict[str, Any]:
    return {"id": f"r{n}", "phase": phase, "startedMs": 1000, "endedMs": 9000}


def line(n: int, what: str) -> dict[str, Any]:
    return {"n": n, "rollout": "r1", "what": what, "why": "because", "numbers": {"users": 500, "exposed": 7}}


class Scripted:
    """A Kairos in which with every look one thing more has happened."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.looks = 0
        self.states = [
            ("prior-1", []), ("m1", [rollout(1, "promoted")]),
            ("m2", [rollout(2, "promoted"), rollout(1, "promoted")]),
            ("m2", [rollout(3, "rolled_back"), rollout(2, "promoted"), rollout(1, "promoted")]),
        ]  # fmt: skip

    def __call__(self, request: httpx.Request) -> httpx.Response:
        champion, rollouts = self.states[min(self.looks // 2, len(self.states) - 1)]
        if request.method == "POST":
            self.asked.append(request.url.path)
            return httpx.Response(202, json={})
        if request.url.path == "/v1/models":
            self.looks += 1
            return httpx.Response(200, json={"models": [{"version": champion, "champion": True}]})
        if request.url.path == "/v1/train":
            run = {"runId": "t1", "target": "conversion", "state": "refused", "why": "first", "nRows": 900,
                   "candidate": None, "message": "worse", "findings": [
                       {"gate": "log_loss", "verdict": "refused", "sentence": "log-loss 0.4 against 0.3"}]}  # fmt: skip
            return httpx.Response(200, json={"runs": [run]})
        status = {
            "rollouts": rollouts,
            "running": None,
            "waiting": None,
            "audit": [line(2, "stage"), line(1, "started")],
        }
        return httpx.Response(200, json=status)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self), base_url="http://kairos")


async def test_the_news_are_told_once_and_with_the_gate_that_refused() -> None:
    told: list[str] = []
    async with Scripted().client() as client:
        news = News(client, told.append)
        for _ in range(3):
            await news.read()
    assert told == [
        "training t1 (first) on 900 rows: refused; worse", "   gate log_loss refuses: log-loss 0.4 against 0.3",
        "rollout r1 started: because (500 users observed, 7 exposed)",
        "rollout r1 stage: because (500 users observed, 7 exposed)",
    ]  # fmt: skip


async def test_the_chapters_follow_each_other_and_the_switches_are_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def keep(_url: str) -> Bad:
        return Bad("m9", "log-loss 2.1 against the champion's 0.3")

    async def put(_url: str, version: str) -> str:
        assert version == "m9"
        return "r3"

    monkeypatch.setattr(demo_loop, "LOOK_S", 0.0)
    monkeypatch.setattr(demo_bad, "keep_inverted", keep)
    monkeypatch.setattr(demo_bad, "put_on_its_way", put)
    told: list[str] = []
    async with Scripted().client() as client:
        await Loop(client, "unix://nowhere", told.append).tell()
    chapters = [one for one in told if not one.startswith("   ")]
    assert [one[:2] for one in chapters] == ["A.", "B.", "C.", "D.", "E.", "Th"]
    assert all("DEMO SWITCH" in one for one in chapters[3:5])
    assert "   m9: refused by the gates: log-loss 2.1 against the champion's 0.3" in told
    assert any("rolled back by itself after 8 s; m2 answers everybody" in one for one in told)


def test_the_compressed_settings_and_book_are_valid(tmp_path: Any) -> None:
    settings = load_settings(None, COMPRESSED)
    assert settings.rollout.plan().stages[0].share == 0
    path = compressed_book(tmp_path)
    campaigns = compile_book(read_book(path.read_bytes(), path.name).book, "b1").campaigns.values()
    assert {campaign.conversion_within_ms for campaign in campaigns} == {15_000}
