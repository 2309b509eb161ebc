"""`POST /v1/decide`: a decision always arrives inside its deadline, from the shard or else in Tier 1's order."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Any, Final, NamedTuple

from actors.begun import Begun
from actors.ready_reply import READY, answer_in, rung_of
from engine.errors import KairosError, Unavailable
from engine.harmony import tell_source
from engine.ids import DecisionId, profile_id, root_of
from serving.bodies import check_media, read_object
from serving.consent import preferences_in
from serving.decide_request import DecideLimits, DecideRequest, read_decide
from serving.endpoint import Call, Room
from serving.forced_request import read_forced
from serving.ports import Answer
from serving.problems import JSON, Reply, json_reply, problem_in

log = logging.getLogger("kairos.http")

MAX_LATE: Final = 1024
"""Decisions past their deadline that are waited for; beyond it they are let go."""
REASONS: Final = {"deadline_exceeded": "DEADLINE", "overloaded": "OVERLOADED", "archive_full": "ARCHIVE_FULL"}
_FULL: Final = {"rung": "model"}
SHARD_UNAVAILABLE: Final = "SHARD_UNAVAILABLE"
_REJECTION: Final = {
    "DEADLINE": ("deadline_exceeded", "the decision did not wait for it; send it again with the same messageId"),
    "OVERLOADED": ("overloaded", "not recorded; send it again with the same messageId"),
    "ARCHIVE_FULL": ("archive_full", "not recorded; send it again with the same messageId, later"),
    SHARD_UNAVAILABLE: ("shard_unavailable", "may not be recorded; send it again with the same messageId"),
}


class ReadyAnswer(NamedTuple):
    """A decision as the shard has written it, and the rung that made it."""

    rung: str
    body: bytes


class Deciding:
    """Asks the shard, owns the timer, and answers for a shard that cannot."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._grace_s = room.settings.deadlines.late_reply_ms / 1000
        self._limits, self._depth = DecideLimits.of(room.settings), room.settings.body.depth
        self._late: set[asyncio.Task[Any]] = set()

    async def decide(self, call: Call) -> Reply:
        """Decide, at the latest when the deadline strikes."""
        room = self._room
        check_media(call.headers)
        body = read_object(call.body, self._depth)
        cookie = None
        if room.first_party is not None:
            (body,), cookie = room.first_party.complete([body], call.headers, call.scope)
        spare = room.dice.getrandbits(64)
        request = read_decide(body, self._limits, call.received_ms, room.message_key, spare, len(call.body))
        payload = self._payload(request, call)
        forced = read_forced(body, call, room.keys) if "preview" in body or "qa" in body else None
        if forced:
            payload |= forced
        if room.tier1.sources and body.get("base") is None:
            request = await self._suggested(request, body, payload, call)
        left_s = request.deadline_ms / 1000 - (perf_counter() - call.started)
        asked = perf_counter()
        answer, reason = await self._ask(request, payload, left_s)
        shard_s = perf_counter() - asked
        reply = self._reply(answer, reason, request, counts=not forced)
        ingress_ms = (perf_counter() - call.started - shard_s) * 1000
        timing = b"ingress;dur=%.3f, shard;dur=%.3f" % (ingress_ms, shard_s * 1000)
        reply.headers.append((b"server-timing", timing))
        if cookie is not None:
            reply.headers.append(cookie)
        return reply

    def _reply(
        self, answer: Answer | ReadyAnswer | None, reason: str, request: DecideRequest, *, counts: bool
    ) -> Reply:
        """The answer as it is sent; `counts` is whether it is a visitor's, and not one of quality assurance."""
        if isinstance(answer, ReadyAnswer):
            self._count(answer.rung, counts)
            return Reply(200, answer.body, [JSON])
        if answer is not None:
            refusal = problem_in(answer)
            if refusal is None:
                decision = answer["decision"]
                _merge_signals(decision, request)
                if "tier1" in decision and counts:
                    self._room.agreements.count(decision)
                self._count((decision.get("degraded") or _FULL)["rung"], counts)
                return json_reply(decision, int(answer.get("status", 200)))
            if refusal.status < 500:
                return refusal
            told = answer.get("error") or answer.get("unavailable") or {}
            reason = _reason(str(told.get("code")))
        self._count("tier1", counts)
        return json_reply(tier1_decision(request, reason))

    def _count(self, rung: str, counts: bool) -> None:
        if counts:
            self._room.meters.decision(rung)

    def _payload(self, request: DecideRequest, call: Call) -> dict[str, Any]:
        room = self._room
        consent = room.consents.read(preferences_in(request.context), call.header(b"sec-gpc"))
        personal = consent["personalisation"]
        return {
            "track": request.track,
            "placement": request.placement,
            "campaign": request.campaign,
            "request_id": request.request_id,
            "page_view_id": request.page_view_id,
            "context": room.contexts.read(request.context, call.hints(), call.received_ms, locate=personal),
            "consent": consent,
            "signals": request.signals,
            "signal_rejects": [],
            "base": request.base,
            "limit": request.limit,
            "deadline_ms": call.received_ms + request.deadline_ms,
            "explain": request.explain,
            "received_ms": call.received_ms,
        }

    async def _suggested(
        self, request: DecideRequest, body: dict[str, Any], payload: dict[str, Any], call: Call
    ) -> DecideRequest:
        """The request with what Tier 1 suggests, where the book says whom to ask; ids go along with consent only."""
        room, context = self._room, payload["context"]
        source = room.tier1.source(request.placement, request.campaign)
        if source is None:
            return request
        personal = payload["consent"]["personalisation"]
        values = {
            "userId": body.get("userId") if personal else None,
            "anonymousId": body.get("anonymousId") if personal else None,
            "placement": request.placement, "campaign": source.campaign, "limit": request.limit,
            "locale": context["locale"], "country": context["country"], "device": context["device"],
        }  # fmt: skip
        started = perf_counter()
        left_s = request.deadline_ms / 1000 - (started - call.started)
        base, told = await room.tier1.fetch(source, values, left_s)
        room.meters.tier1(told, perf_counter() - started)
        payload["base"], payload["source"] = base, told
        return request._replace(base=base, source=told)

    async def _ask(
        self, request: DecideRequest, payload: dict[str, Any], left_s: float
    ) -> tuple[Answer | ReadyAnswer | None, str]:
        """The shard's answer, or None with the reason for its absence.

        Nearly always the shard is known and connected: one frame out, one in, and a timer. Else `_ask_patiently`.
        """
        ready = not request.gave_signals
        begun = self._room.asks.begin(request.track, "decide", {**payload, READY: True} if ready else payload)
        if begun is None:
            return await self._ask_patiently(request.track, payload, left_s)
        loop = begun.answer.get_loop()
        give_up_s = loop.time() + left_s
        alarm = self._room.alarms.set(loop, give_up_s, begun.strike)
        try:
            raw = await begun.answer
        except asyncio.CancelledError:
            begun.strike()
            self._await_late(begun)
            raise
        except Unavailable as error:
            if request.request_id is None:
                # It may have been decided, and without an id it cannot be asked for again.
                return None, _reason(error.code)
            raw = b'{"not_mine":true}'
        finally:
            self._room.alarms.off(alarm)
        if begun.late is not None:
            self._await_late(begun)
            return None, "DEADLINE"
        rung = rung_of(raw)
        if rung is not None:
            return ReadyAnswer(rung, raw[1:]), ""
        answer = answer_in(raw)
        if "decision" in answer or "error" in answer:
            return answer, ""
        code = (answer.get("unavailable") or {}).get("code", "recovering")
        if code != "recovering":
            return answer, ""
        return await self._ask_patiently(request.track, payload, give_up_s - loop.time())

    async def _ask_patiently(self, track: str, payload: dict[str, Any], left_s: float) -> tuple[Answer | None, str]:
        """Ask until there is an answer or the time is up, whatever moves, recovers or reconnects meanwhile."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._room.asks.ask(track, "decide", payload, timeout_s=left_s + self._grace_s))
        struck: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(max(left_s, 0.0), _release, struck)
        task.add_done_callback(lambda _: _release(struck))
        try:
            await struck
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        finally:
            timer.cancel()
        if not task.done():
            self._abandon(task)
            return None, "DEADLINE"
        try:
            answer = task.result()
            # A reply that is neither a decision nor an error is a failure of the shard.
            if not ("decision" in answer or "error" in answer or "unavailable" in answer):
                raise TypeError(f"a decide reply with {sorted(answer)}")
            return answer, ""
        except Unavailable as error:
            return None, _reason(error.code)
        except asyncio.CancelledError:
            return None, SHARD_UNAVAILABLE
        except Exception:
            log.exception("asking for a decision failed")
            return None, SHARD_UNAVAILABLE

    def _await_late(self, begun: Begun) -> None:
        late = begun.late or begun.answer
        if len(self._late) >= MAX_LATE:
            begun.forget()
            return

        async def reply() -> Answer:
            try:
                raw = await asyncio.wait_for(late, self._grace_s)
            except TimeoutError:
                return {}
            finally:
                begun.forget()
            return answer_in(raw)

        self._abandon(asyncio.get_running_loop().create_task(reply()))

    def _abandon(self, task: asyncio.Task[Answer]) -> None:
        """Wait for a late reply in the background, to tell its shard that it came too late."""
        if len(self._late) >= MAX_LATE:
            task.cancel()
            return
        late = asyncio.get_running_loop().create_task(self._supersede(task))
        self._late.add(late)
        late.add_done_callback(self._late.discard)

    async def _supersede(self, task: asyncio.Task[Answer]) -> None:
        try:
            decision = (await task).get("decision") or {}
            given = decision.get("decisionId")
            if given is None:
                return
            self._room.meters.superseded()
            partition = DecisionId.parse(given).partition
            payload: dict[str, Any] = {"decision_id": given, "received_ms": self._room.clock()}
            if "profileId" in decision:
                # Told whose it is, the shard need not look that up in the journal, of all times while it is behind.
                payload["track"] = root_of(decision["profileId"])
            await self._room.asks.ask_partition(partition, "supersede", payload, timeout_s=self._grace_s or 1.0)
        except (KairosError, asyncio.CancelledError):
            return
        except Exception:
            log.exception("superseding a late decision failed")


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _reason(code: str) -> str:
    return REASONS.get(code, SHARD_UNAVAILABLE)


def _merge_signals(decision: dict[str, Any], request: DecideRequest) -> None:
    """Give the shard's rejects their places in the request, and add those that never went there."""
    if not request.gave_signals:
        return
    told = decision.get("signals") or {}
    rejected = list(request.rejects)
    for reject in told.get("rejected", ()):
        index = reject.get("index", 0)
        place = request.positions[index] if index < len(request.positions) else index
        rejected.append({**reject, "index": place})
    rejected.sort(key=lambda reject: reject["index"])
    accepted, duplicates = told.get("accepted", 0), told.get("duplicates", 0)
    decision["signals"] = {"accepted": accepted, "duplicates": duplicates, "rejected": rejected}


def tier1_decision(request: DecideRequest, reason: str) -> dict[str, Any]:
    """The last rung: Tier 1's own suggestions in their order. What is not known is null; nothing was recorded."""
    decision: dict[str, Any] = {
        "decisionId": None,
        "recorded": False,
        "profileId": profile_id(request.track),
        "placement": request.placement,
        "campaign": request.campaign,
        "items": [
            {"id": item["id"], "kind": "base", "content": item.get("content"), "score": item.get("score"),
             "propensity": 1.0, "reason": "TIER1"}
            for item in request.base[: request.limit]
        ],
        "segments": [],
        "treatment": {"layout": "standard", "media": "standard"},
        "score": {
            "value": None, "recency": None, "depth": None, "conversion": None,
            "weights": {"recency": None, "depth": None, "conversion": None}, "stage": None,
        },
        "risk": {"conversion": None, "churn": None},
        "next": {"offer": None, "uplift": None},
        "model": {"version": None, "arm": None},
        "holdout": False,
        "variants": {},
        "degraded": {"rung": "tier1", "reason": reason},
        "reason": "DEGRADED",
    }  # fmt: skip
    if request.source is not None:
        tell_source(decision, request.source)
    if request.gave_signals:
        code, message = _REJECTION[reason]
        lost = [{"index": i, "code": code, "message": message} for i in request.positions]
        rejected = sorted(request.rejects + lost, key=lambda reject: reject["index"])
        decision["signals"] = {"accepted": 0, "duplicates": 0, "rejected": rejected}
    if request.explain:
        decision["explain"] = None
    return decision
