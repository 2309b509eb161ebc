"""Rollouts over HTTP: what stands where, and the verbs of people."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from engine.errors import InvalidInput, Unavailable
from engine.fields import identifier, refuse
from serving.bodies import check_media, read_object
from serving.endpoint import Call, Handler, Room
from serving.ports import RolloutDesk
from serving.problems import Reply, json_reply

VERBS: Final = ("promote", "rollback", "pause", "resume")
SOMEBODY: Final = "api"
"""Who acts where the request does not say."""
MAX_TEXT: Final = 500


class RolloutCalls:
    """History, live evidence, and steering."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def read(self, call: Call) -> Reply:  # noqa: ARG002 (the endpoint hands every call over)
        """What is under way with its evidence, what waits, what has ended, and the audit log."""
        return json_reply(await self._desk.status())

    async def start(self, call: Call) -> Reply:
        """Submit a model or a book that is kept; 202 with the rollout."""
        body = self._body(call)
        kind = body.get("kind", "model")
        if kind not in ("model", "book"):
            raise refuse("kind", kind, "model or book", "bad_kind")
        version = identifier("version", body.get("version"), "bad_version")
        if version is None:
            raise InvalidInput("bad_version", "version: found nothing, expected a version of GET /v1/models")
        return json_reply(await self._desk.start(kind, version, *_who(body)), 202)

    def act(self, verb: str) -> Handler:
        """The handler of promote, rollback, pause or resume."""
        return partial(self._act, verb)

    async def _act(self, verb: str, call: Call) -> Reply:
        return json_reply(await self._desk.act(call.part("id"), verb, *_who(self._body(call))))

    def _body(self, call: Call) -> dict[str, Any]:
        if not call.body.strip():
            return {}
        check_media(call.headers)
        return read_object(call.body, self._room.settings.body.depth)

    @property
    def _desk(self) -> RolloutDesk:
        if self._room.rollouts is None:
            raise Unavailable("no_rollouts", "this Kairos has no rollouts")
        return self._room.rollouts


def canary_share(given: str) -> float:
    """The share of `?canary=`; raises InvalidInput `bad_canary`.

    >>> canary_share("0.05")
    0.05
    """
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 < share <= 0.5:
        raise refuse("canary", given, "a share above 0 and up to 0.5", "bad_canary")
    return share


def _who(body: dict[str, Any]) -> tuple[str, str]:
    by, why = body.get("by", SOMEBODY), body.get("why", "")
    for name, value in (("by", by), ("why", why)):
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise refuse(name, value, f"a text of at most {MAX_TEXT} characters", "bad_body")
    return by, why
