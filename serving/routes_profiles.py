"""Reading and changing what is known: decisions, rewards, profiles, identities, scores."""

from __future__ import annotations

from typing import Any

from engine.errors import InvalidInput, NotFound
from engine.events import Rejected, read_identity, track_of
from engine.fields import has_control, identifier, refuse
from engine.identities import IdentityRules
from engine.ids import ANON, USER, DecisionId, anon_track, root_of, user_track
from serving.bodies import check_media, read_object
from serving.consent import preferences_in
from serving.endpoint import Call, Room
from serving.ports import Answer
from serving.problems import Reply, json_reply, problem_in


class Records:
    """Decisions that were made, and what they were worth."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._timeout_s = room.settings.deadlines.read_ms / 1000

    async def decision(self, call: Call) -> Reply:
        """The record and its explanation; `?replay=true` recomputes it."""
        replay = _flag(call, "replay")
        answer = await self._ask(call.part("id"), "decision", {"replay": replay})
        return problem_in(answer) or json_reply(_flat(answer, "record"))

    async def reward(self, call: Call) -> Reply:
        """Tell what a decision was worth; the same again is fine, another value is a conflict."""
        check_media(call.headers)
        body = read_object(call.body, self._room.settings.body.depth)
        value, type_ = body.get("value"), body.get("type")
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise refuse("value", value, "a number from 0 to 1", "bad_value")
        if not isinstance(type_, str) or not 0 < len(type_) <= 64 or has_control(type_):
            raise refuse("type", type_, "a name of 1 to 64 characters, e.g. conversion", "bad_reward_type")
        payload = {"value": float(value), "type": type_, "received_ms": call.received_ms}
        answer = await self._ask(call.part("id"), "reward", payload)
        return problem_in(answer) or json_reply(answer)

    async def _ask(self, decision_id: str, op: str, payload: dict[str, Any]) -> Answer:
        partition = DecisionId.parse(decision_id).partition
        if partition >= self._room.settings.n_partitions:
            raise NotFound("unknown_decision", "no such decision")
        payload["decision_id"] = decision_id
        return await self._room.asks.ask_partition(partition, op, payload, timeout_s=self._timeout_s)


class Profiles:
    """Visitors: what is known of them, who they are, what they will probably do."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._timeout_s = room.settings.deadlines.read_ms / 1000

    async def read(self, call: Call) -> Reply:
        """State, features, segments, identities."""
        answer = await self._ask(self._profile(call), "profile", {})
        return problem_in(answer) or json_reply(_flat(answer, "profile"))

    async def export(self, call: Call) -> Reply:
        """Everything held."""
        answer = await self._ask(self._profile(call), "export", {})
        return problem_in(answer) or json_reply(_flat(answer, "export"))

    async def erase(self, call: Call) -> Reply:
        """Begin the erasure; the receipt goes from pending to done."""
        answer = await self._ask(self._profile(call), "erase", {"received_ms": call.received_ms})
        return problem_in(answer) or json_reply(answer, 202)

    async def unlink(self, call: Call) -> Reply:
        """Undo a merge."""
        check_media(call.headers)
        body = read_object(call.body, self._room.settings.body.depth)
        user = self._kept(identifier("userId", body.get("userId"), "bad_user_id"))
        anonymous = self._kept(identifier("anonymousId", body.get("anonymousId"), "bad_anonymous_id"))
        others = IdentityRules(email=True, devices=True).others(body)
        named = [*others, *([] if anonymous is None else [anon_track(anonymous)])]
        if user is not None:
            named.insert(0, user_track(user))
        if len(named) != 2:
            what = "userId and one of anonymousId, deviceId, email, hashedEmail: expected these two"
            raise Rejected("missing_id", what)
        root, other = named
        payload = {"anon": other, "received_ms": call.received_ms}
        answer = await self._ask(root, "unlink", payload)
        return problem_in(answer) or json_reply(answer)

    async def score(self, call: Call) -> Reply:
        """Conversion, churn and score of a visitor, shared with Tier 1."""
        check_media(call.headers)
        room = self._room
        body = read_object(call.body, room.settings.body.depth)
        rules = room.settings.identity.rules()
        others = () if rules is None else rules.others(body)
        user, anonymous = read_identity(body, others, rules)
        context = body.get("context")
        if context is not None and not isinstance(context, dict):
            raise refuse("context", context, "an object", "bad_context")
        consent = room.consents.read(preferences_in(context), call.header(b"sec-gpc"))
        personal = consent["personalisation"]
        payload = {
            "context": room.contexts.read(context, call.hints(), call.received_ms, locate=personal),
            "consent": consent,
            "now_ms": call.received_ms,
        }
        answer = await self._ask(track_of(user, anonymous, others), "score", payload)
        return problem_in(answer) or json_reply(answer)

    async def _ask(self, track: str, op: str, payload: dict[str, Any]) -> Answer:
        payload["track"] = track
        return await self._room.asks.ask(track, op, payload, timeout_s=self._timeout_s)

    def _profile(self, call: Call) -> str:
        root = root_of(call.part("id"))
        if has_control(root):
            raise InvalidInput("bad_profile_id", "a profile's id has no control characters")
        kind = next((kind for kind in (ANON, USER) if call.part("id").startswith(kind)), None)
        return root if kind is None else f"{kind}{self._kept(root[len(kind) :])}"

    def _kept(self, given: str | None) -> str | None:
        rules = self._room.settings.identity.rules()
        return given if rules is None else rules.kept(given)


def _flat(answer: Answer, name: str) -> Answer:
    """The named part of an answer with what stands beside it."""
    beside = {key: value for key, value in answer.items() if key != name}
    return {**answer.get(name, {}), **beside}


def _flag(call: Call, name: str) -> bool:
    value = call.query(name)
    if value not in (None, "", "true", "false", "1", "0"):
        raise refuse(name, value, "true or false", "bad_query")
    return value in ("", "true", "1")
