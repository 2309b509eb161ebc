"""The catalogue over HTTP: replaced as a whole, by a file as the shop's own systems export it."""

from __future__ import annotations

from typing import Final

from serving.bodies import check_media
from serving.endpoint import Call, Room
from serving.problems import Reply, json_reply

TYPES: Final = (
    b"text/csv", b"text/tab-separated-values", b"application/xml", b"text/xml", b"application/rss+xml",
    b"application/atom+xml", b"application/octet-stream",
)  # fmt: skip
NAME: Final = "catalogue"


class Catalogue:
    """Which catalogue is in force, and replacing it."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def read(self, call: Call) -> Reply:  # noqa: ARG002 (the endpoint hands every call over)
        """The version in force, with how many products it has."""
        return json_reply(await self._room.worlds.catalogue())

    async def replace(self, call: Call) -> Reply:
        """Replace it by CSV, tab-separated values or a Merchant feed; `?skipBad=true` leaves bad rows out."""
        check_media(call.headers, TYPES)
        skip, rates = call.query("skipBad") == "true", self._room.settings.rates
        return json_reply(await self._room.worlds.put_catalogue(call.body, NAME, rates, skip_bad=skip))
