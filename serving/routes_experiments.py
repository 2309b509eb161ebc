"""What experiments show so far, over HTTP."""

from __future__ import annotations

from engine.errors import Unavailable
from serving.endpoint import Call, Room
from serving.problems import Reply, json_reply


class ExperimentCalls:
    """`GET /v1/experiments`."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def read(self, call: Call) -> Reply:  # noqa: ARG002 (the endpoint hands every call over)
        """Every experiment of the book in force, with intervals that hold at every look."""
        if self._room.experiments is None:
            raise Unavailable("no_experiments", "this Kairos evaluates no experiments")
        return json_reply(await self._room.experiments.read())
