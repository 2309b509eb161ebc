"""`POST /v1/track · identify · page · screen · group · alias · batch`: events in, counts out."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import orjson

from actors.linking import link
from engine.errors import InvalidInput, Unavailable
from engine.events import Event, Rejected, parse_event
from serving.at_once import send_at_once, spread, taken_in
from serving.bodies import check_media, read_json, read_object
from serving.endpoint import Call, Room
from serving.event_contexts import EventContexts
from serving.fan import Chain, Outcome, Step, chains
from serving.ports import Answer
from serving.problems import Reply, json_reply, problem

log = logging.getLogger("kairos.http")

AT_ONCE: Final = 64
"""Chains of one batch that are asked at the same time."""
MERGE_REFUSED: Final = {
    "code": "merge_refused", "message": "previousId: it is a user that is known, and two known users are not merged",
}  # fmt: skip
BREATH: Final = 256
"""Events parsed before the loop gets a turn."""
UNAVAILABLE: Final[Outcome] = {"code": "unavailable", "message": "could not be made durable; send it again"}


class Observing:
    """Reads events, sends each visitor's to their shard in order, and counts what became of them."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._timeout_s = room.settings.deadlines.observe_ms / 1000
        self._rules = room.settings.identity.rules()

    async def single(self, call: Call, type_: str) -> Reply:
        """One event, of the type that the route says."""
        check_media(call.headers)
        try:
            event = read_json(call.body, self._room.settings.body.depth)
        except InvalidInput as error:
            return _nothing_read(error)
        return await self._observe(call, [event], type_, backfill=False)

    async def batch(self, call: Call) -> Reply:
        """Many events of any types and visitors."""
        check_media(call.headers)
        try:
            body, rows = self._rows(call)
        except InvalidInput as error:
            return _nothing_read(error)
        shared = {name: body[name] for name in ("context", "sentAt") if body.get(name) is not None}
        if shared:
            rows = [_with_shared(row, shared) for row in rows]
        return await self._observe(call, rows, None, backfill=call.query("backfill") == "true")

    def _rows(self, call: Call) -> tuple[dict[str, Any], list[Any]]:
        body = read_object(call.body, self._room.settings.body.depth)
        rows = body.get("batch")
        if not isinstance(rows, list):
            raise InvalidInput("bad_batch", "batch: expected a list of events")
        if not rows:
            raise InvalidInput("empty_batch", "batch: found no event, expected at least one")
        return body, rows

    async def _observe(self, call: Call, rows: list[Any], type_: str | None, *, backfill: bool) -> Reply:
        keeper = self._room.first_party
        if keeper is not None:
            rows, cookie = keeper.complete(rows, call.headers, call.scope)
            reply = await self._take(call, rows, type_, backfill=backfill)
            return reply if cookie is None else reply._replace(headers=[*reply.headers, cookie])
        return await self._take(call, rows, type_, backfill=backfill)

    async def _take(self, call: Call, rows: list[Any], type_: str | None, *, backfill: bool) -> Reply:
        outcomes: list[Outcome] = [UNAVAILABLE] * len(rows)
        events = await self._parse(call, rows, type_, outcomes)
        work = chains(events)
        if len(work) == 1:
            return self._count(outcomes, [await self._run(work[0], call, outcomes, backfill)])
        common = {"backfill": backfill, "received_ms": call.received_ms}
        left, late = await send_at_once(self._room.asks, work, common, self._timeout_s, outcomes)
        gate = asyncio.Semaphore(AT_ONCE)

        async def gated(chain: Chain) -> str:
            async with gate:
                return await self._run(chain, call, outcomes, backfill)

        return self._count(outcomes, [*late, *await asyncio.gather(*(gated(chain) for chain in left))])

    async def _parse(
        self, call: Call, rows: list[Any], type_: str | None, outcomes: list[Outcome]
    ) -> list[tuple[int, Event, dict[str, Any], dict[str, bool]]]:
        room, reader = self._room, EventContexts(self._room, call)
        limit = room.settings.body.event_bytes
        measure = len(call.body) > limit
        events = []
        for i, row in enumerate(rows):
            if i % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            try:
                if measure and len(orjson.dumps(row)) > limit:
                    raise Rejected("too_large", f"batch[{i}]: expected at most {limit} bytes an event")
                event = parse_event(
                    row, received_ms=call.received_ms, message_key=room.message_key, default_type=type_,
                    spare_message=room.dice.getrandbits(64), rules=self._rules,
                )  # fmt: skip
            except Rejected as error:
                outcomes[i] = {"code": error.code, "message": error.message}
                continue
            events.append((i, event, *reader.read(event)))
        return events

    async def _run(self, chain: Chain, call: Call, outcomes: list[Outcome], backfill: bool) -> str:
        """The steps of one visitor, in order; after one that could not be made durable the rest is not tried.

        Returns why that was: the code of what failed, empty where nothing did.
        """
        for step in chain:
            try:
                refused = await self._link(step, call) if step.links else None
                if refused is not None and (step.alias or "status" in refused):
                    spread({"error": refused}, step, outcomes)
                    continue
                answer = await self._ask(step.track, "observe", _observation(step, backfill), call)
                if not taken_in(answer, step, outcomes):
                    raise TypeError(f"an observe reply with {sorted(answer)}")
                if "error" not in answer and refused is not None:
                    first = step.indexes[0]
                    outcomes[first] = {**refused, "result": outcomes[first]}
            except Unavailable as failure:
                return failure.code
            except Exception:
                log.exception("observing failed")
                return "internal"
        return ""

    async def _link(self, step: Step, call: Call) -> dict[str, Any] | None:
        """Make the links of a step; the error of one that failed, or else the first refusal, if there is any."""
        refused: dict[str, Any] | None = None
        for named, to in step.links:
            if step.alias and (await self._ask("user:" + named.partition(":")[2], "known", {}, call)).get("known"):
                return MERGE_REFUSED
            reply = await link(lambda track, op, payload: self._ask(track, op, payload, call), named, to)
            if "error" in reply:
                return dict(reply["error"])
            refused = refused or reply.get("refused")
        return refused

    async def _ask(self, track: str, op: str, payload: dict[str, Any], call: Call) -> Answer:
        payload["track"], payload["received_ms"] = track, call.received_ms
        answer = await self._room.asks.ask(track, op, payload, timeout_s=self._timeout_s)
        if (unavailable := answer.get("unavailable")) is not None:
            raise Unavailable(str(unavailable.get("code")), str(unavailable.get("message")))
        return answer

    def _count(self, outcomes: list[Outcome], reasons: list[str]) -> Reply:
        meters, accepted, duplicates, lost = self._room.meters, 0, 0, 0
        rejected: list[dict[str, Any]] = []
        refused: list[dict[str, Any]] = []
        for i, outcome in enumerate(outcomes):
            if isinstance(outcome, dict) and "result" in outcome:
                refused.append({"index": i, "code": outcome["code"], "message": outcome["message"]})
                meters.link_refused(outcome["code"])
                outcomes[i] = outcome["result"]
        for i, outcome in enumerate(outcomes):
            if outcome == "accepted":
                accepted += 1
            elif outcome == "duplicate":
                duplicates += 1
            elif outcome is UNAVAILABLE:
                lost += 1
            else:
                assert isinstance(outcome, dict)
                rejected.append({"index": i, "code": outcome["code"], "message": outcome["message"]})
                meters.rejected(outcome["code"])
        meters.events(accepted, duplicates, lost)
        counts: dict[str, Any] = {"accepted": accepted, "duplicates": duplicates, "rejected": rejected}
        if refused:
            counts["refusedLinks"] = refused
        if lost:
            message = f"{lost} of {len(outcomes)} events could not be made durable; send the request again"
            why = next(filter(None, reasons), "internal")
            return problem(503, "not_durable", f"{message} ({why})", success=False, reason=why, **counts)
        if accepted or duplicates:
            return json_reply({"success": True, **counts})
        first = rejected[0]
        if len(rejected) == 1:
            return problem(400, first["code"], first["message"], success=False, **counts)
        message = f"all {len(rejected)} events were rejected; the first: {first['message']}"
        return problem(400, "all_rejected", message, success=False, **counts)


def _nothing_read(error: InvalidInput) -> Reply:
    """The answer to what holds no event: a problem with the counts that every answer of these calls has."""
    return problem(400, error.code, error.message, success=False, accepted=0, duplicates=0, rejected=[])


def _observation(step: Step, backfill: bool) -> dict[str, Any]:
    return {"signals": step.signals, "context": step.context, "consent": step.consent, "backfill": backfill}


def _with_shared(row: Any, shared: dict[str, Any]) -> Any:
    """An event with the batch's `context` and `sentAt` where it has none of its own, as Segment merges them."""
    if not isinstance(row, dict):
        return row
    merged = {**shared, **{name: value for name, value in row.items() if value is not None}}
    own, common = row.get("context"), shared.get("context")
    if isinstance(own, dict) and isinstance(common, dict):
        merged["context"] = {**common, **own}
    return merged
