"""`GET /v1/tier1`: whom this ingress asks for suggestions, how that goes, and how far the tiers agree."""

from __future__ import annotations

from serving.endpoint import Call, Room
from serving.problems import Reply, json_reply


class Tier1Told:
    """Tier 1 as this ingress sees it since it started; with several ingresses each tells its own."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def read(self, _: Call) -> Reply:
        """The sources with their breakers and results, and the agreement by campaign."""
        room = self._room
        return json_reply({"sources": room.tier1.told(), "agreement": room.agreements.told()})
