"""A Kairos of one process for HTTP tests: fake shards and books behind the real application, the clock stopped."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import httpx

from actors.memory import MemoryDocuments
from actors.runs import Runs
from engine.dry_run import NOTHING
from engine.errors import KairosError, NotFound
from engine.findings import BookInvalid, Finding
from engine.ids import partition_of, profile_id
from serving.app import build_app
from serving.keys import KeyRing
from serving.offer_keys import OfferKeys
from serving.settings import Settings
from serving.tier1 import Tier1
from training.rollout import Rollout
from training.rollout_plan import Plan

NOW_MS = 1_714_564_800_000
"""2024-05-01T12:00:00Z."""


class FakeAsks:
    """Shards that keep everything in dicts; `fail` and `hold` make them ail."""

    def __init__(self, n_partitions: int = 64) -> None:
        self.n_partitions = n_partitions
        self.log: list[tuple[str, str, Mapping[str, Any]]] = []
        self.seen: set[tuple[str, int]] = set()
        self.decisions: dict[str, dict[str, Any]] = {}
        self.rewards: dict[tuple[str, str], float] = {}
        self.fail: dict[str, KairosError | Exception] = {}
        self.replies: dict[str, dict[str, Any]] = {}
        self.hold: asyncio.Event | None = None
        self.asked, self.superseded = asyncio.Event(), asyncio.Event()
        self.unreachable: set[str] = set()
        self.known: set[str] = set()

    async def ask(self, track_id: str, op: str, payload: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        self.log.append((track_id, op, payload))
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        if op in self.fail:
            raise self.fail[op]
        if op in self.replies:
            return self.replies[op]
        if track_id in self.unreachable:
            return {"unavailable": {"code": "not_durable", "message": "the store is away"}}
        return getattr(self, f"_{op}")(track_id, payload)

    def begin(self, track_id: str, op: str, payload: dict[str, Any]) -> None:
        return None

    def begin_together(self, op: str, shared: Any, asked: Any) -> tuple[list[Any], list[int]]:
        return [], list(range(len(asked)))

    async def ask_partition(
        self, partition: int, op: str, payload: Mapping[str, Any], *, timeout_s: float
    ) -> dict[str, Any]:
        self.log.append((f"partition {partition}", op, payload))
        if op in self.fail:
            raise self.fail[op]
        return getattr(self, f"_{op}")("", payload)

    def ops(self) -> list[tuple[str, str]]:
        """Who was asked for what, in order."""
        return [(track, op) for track, op, _ in self.log]

    def payload(self, op: str) -> Mapping[str, Any]:
        """What the latest request of a kind carried."""
        return next(payload for _, asked, payload in reversed(self.log) if asked == op)

    def _observe(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        results = []
        for _, _, message, _ in payload["signals"]:
            results.append("duplicate" if (track, message) in self.seen else "accepted")
            self.seen.add((track, message))
        return {"results": results}

    def _link(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"linked": True}

    def _known(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"known": track in self.known}

    def _unlink(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"unlinked": True}

    def _decide(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        if payload["placement"] == "nowhere":
            return {"error": {"code": "unknown_placement", "message": "no campaign lists it", "status": 404}}
        decision_id = f"d_{partition_of(track, self.n_partitions)}_1_{len(self.decisions) + 1}_0"
        decision = {
            "decisionId": decision_id, "recorded": True, "profileId": profile_id(track),
            "placement": payload["placement"], "campaign": "recovery",
            "items": [
                {"id": item["id"], "kind": "base", "content": item.get("content"), "score": item.get("score"),
                 "propensity": 1.0, "reason": "TIER1"} for item in payload["base"][: payload["limit"]]
            ],
            "segments": [], "treatment": {"layout": "standard", "media": "standard"},
            "score": {"value": 0.5, "recency": 1.0, "depth": 0.2, "conversion": 0.1,
                      "weights": {"recency": 0.3, "depth": 0.2, "conversion": 0.5}, "stage": "new"},
            "risk": {"conversion": 0.1, "churn": 0.2}, "next": {"offer": None, "uplift": None},
            "model": {"version": "prior-1", "arm": "champion"}, "holdout": False, "variants": {}, "degraded": None,
            "reason": None,
        }  # fmt: skip
        if payload["signals"]:
            results = self._observe(track, payload)["results"]
            counts = {"accepted": results.count("accepted"), "duplicates": results.count("duplicate")}
            decision["signals"] = {**counts, "rejected": []}
        self.decisions[decision_id] = decision
        return {"decision": decision, "status": 200}

    def _decision(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        found = self.decisions.get(payload["decision_id"])
        if found is None:
            return {"error": {"code": "unknown_decision", "message": "no such decision", "status": 404}}
        return {"record": {**found, **({"identical": True} if payload["replay"] else {})}}

    def _reward(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        key = (payload["decision_id"], payload["type"])
        if key in self.rewards and self.rewards[key] != payload["value"]:
            return {"error": {"code": "reward_conflict", "message": "another value", "status": 409}}
        status = "repeated" if key in self.rewards else "recorded"
        self.rewards[key] = payload["value"]
        return {"status": status}

    def _supersede(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        self.superseded.set()
        return {"status": "superseded"}

    def _profile(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"profile": {"profileId": profile_id(track)}}

    def _export(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"export": {"profileId": profile_id(track), "signals": []}}

    def _erase(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"receipt": {"id": "e_1", "status": "pending"}}

    def _score(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        model = {"version": "prior-1", "arm": "champion"}
        return {"conversion": 0.1, "churn": 0.2, "score": {"value": 0.5}, "model": model}

    def _stats(self, track: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"n_live": 0}


class FakeWorlds:
    """One book and its history."""

    def __init__(self) -> None:
        self.books = {"b1": "campaigns: {}\n"}
        self.version = "b1"
        self.dry_run_limit = 0

    async def current_book(self) -> dict[str, Any]:
        return {"version": self.version, "yaml": self.books[self.version], "book": {"campaigns": {}}}

    async def put_book(self, source: str) -> str:
        if "typo" in source:
            found = Finding("campaigns.typo", "unknown_key", "no such key", "typo", "a campaign", "campaign")
            raise BookInvalid([found])
        self.version = f"b{len(self.books) + 1}"
        self.books[self.version] = source
        return self.version

    async def dry_run(self, source: str, limit: int) -> dict[str, Any]:
        if "typo" in source:
            found = Finding("campaigns.typo", "unknown_key", "no such key", "typo", "a campaign", "campaign")
            raise BookInvalid([found])
        self.dry_run_limit = limit
        return {**NOTHING, "book": self.version, "model": "prior-1", "missing": [], "warnings": [], "shards": 1}

    async def rollback_book(self, version: str) -> str:
        if version not in self.books:
            raise NotFound("unknown_version", "no such version")
        self.version = version
        return version

    async def catalogue(self) -> dict[str, Any]:
        return {"version": None, "products": 0}

    async def put_catalogue(
        self, raw: bytes, name: str, rates: Mapping[str, float], *, skip_bad: bool = False
    ) -> dict[str, Any]:
        return {"version": "c1-00000000", "products": 1, "out_of_stock": 0, "skipped": []}

    async def models(self) -> list[dict[str, Any]]:
        return [{"version": "prior-1", "kind": "prior", "state": "champion"}]


class FakeDesk:
    """Rollouts that write down what they are told, and answer with the one there is."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.rollout = Rollout("r1", "model", "m2", Plan(), NOW_MS).told(NOW_MS)

    async def status(self) -> dict[str, Any]:
        return {
            "rollouts": [self.rollout], "running": {**self.rollout, "evidence": {}}, "waiting": None, "policy": "one",
            "traffic": {"usersPerDay": 1.0, "conversion": 0.1}, "expected": {"days": None}, "audit": [],
        }  # fmt: skip

    async def start(self, kind: str, version: str, by: str, why: str) -> dict[str, Any]:
        self.log.append((kind, version, by, why))
        return self.rollout

    async def start_book(self, source: str, share: float, by: str, why: str) -> dict[str, Any]:
        self.log.append((source, share, by, why))
        return {"version": "b2", "rollout": self.rollout, "dryRun": {}}

    async def act(self, rollout_id: str, verb: str, by: str, why: str) -> dict[str, Any]:
        if rollout_id == "r9":
            raise NotFound("unknown_rollout", "there is no rollout r9")
        self.log.append((rollout_id, verb, by, why))
        return self.rollout


class NoExperiments:
    """A book without experiments."""

    async def read(self) -> dict[str, Any]:
        return {"experiments": [], "asOfMs": NOW_MS, "pending": False}


class House:
    """The application with its fakes, and a client."""

    def __init__(
        self, settings: Settings | None = None, keys: KeyRing | None = None, tier1: Tier1 | None = None, **client: Any
    ) -> None:
        self.settings, self.asks, self.worlds = settings or Settings(), FakeAsks(), FakeWorlds()
        self.runs, self.desk = Runs(MemoryDocuments(), lambda: NOW_MS), FakeDesk()
        self.app = build_app(
            self.asks, self.worlds, self.settings, keys or KeyRing(),
            clock=lambda: NOW_MS, message_key=b"k" * 32, dice=random.Random(7),
            offer_keys=OfferKeys(b"r" * 32, b"p" * 32), trainings=self.runs, experiments=NoExperiments(), tier1=tier1,
            rollouts=self.desk,
        )  # fmt: skip
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=True)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", **client)

    async def post(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return await self.client.post(path, json=json, **more)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(path, **more)


def a_track(event: str = "Clicked", **fields: Any) -> dict[str, Any]:
    """A track event of visitor a-1."""
    return {"anonymousId": "a-1", "event": event, **fields}


def in_batch(*events: Any, **shared: Any) -> dict[str, Any]:
    """A batch; events without a type are tracks."""
    rows = [{"type": "track", **e} if isinstance(e, dict) else e for e in events]
    return {"batch": rows, **shared}


def is_problem(response: httpx.Response, status: int, code: str) -> bool:
    """Whether a response is a problem document with everything that belongs to one."""
    body = response.json()
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["code"] == code, body
    assert body["message"] == body["detail"] != ""
    assert body["type"]
    assert body["title"]
    return True
