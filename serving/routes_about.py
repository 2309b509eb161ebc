"""Kairos about itself: health, readiness, metrics, the API's description and its page."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.resources import files

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from engine.errors import KairosError
from serving.endpoint import Call, Room
from serving.openapi import openapi
from serving.ports import Readiness
from serving.problems import JSON, Headers, Reply, json_reply, problem
from serving.training_meters import training_text

_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)


class About:
    """What is open to everybody on this machine."""

    def __init__(self, room: Room, readiness: Readiness | None) -> None:
        self._room, self._readiness = room, readiness

    async def health(self, call: Call) -> Reply:  # noqa: ARG002
        """The process answers."""
        return json_reply({"status": "ok"})

    async def ready(self, call: Call) -> Reply:  # noqa: ARG002
        """A shard answers, so that decisions are full."""
        state: Mapping[str, object]
        try:
            if self._readiness is not None:
                state = await self._readiness()
            else:
                state = {
                    "ready": "unavailable" not in await self._room.asks.ask_partition(0, "stats", {}, timeout_s=1.0)
                }
        except KairosError as error:
            return problem(503, error.code, error.message, ready=False)
        if not state.get("ready"):
            extra = {name: value for name, value in state.items() if name not in ("code", "message", "status")}
            return problem(503, "not_ready", str(state.get("message", "not ready yet")), **extra)
        return json_reply({"status": "ready", **state})

    async def metrics(self, call: Call) -> Reply:  # noqa: ARG002
        """Counters and histograms of this ingress, and how the trainer stands."""
        text = self._room.meters.text()
        if self._room.trainings is not None:
            # A store that does not answer must not take the other figures along.
            with suppress(KairosError):
                text += training_text(await self._room.trainings.told(), self._room.clock())
        return Reply(200, text, [(b"content-type", CONTENT_TYPE_LATEST.encode())])

    async def description(self, call: Call) -> Reply:  # noqa: ARG002
        """OpenAPI 3.1."""
        return Reply(200, description(), [JSON])

    async def page(self, call: Call) -> Reply:  # noqa: ARG002
        """The description as a page, without anything from elsewhere."""
        headers: Headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", _POLICY)]
        return Reply(200, page(), headers)


@cache
def description() -> bytes:
    """The API's description, made once."""
    return orjson.dumps(openapi())


@cache
def page() -> bytes:
    """The documentation page, read once."""
    return files("serving").joinpath("web", "docs.html").read_bytes()
