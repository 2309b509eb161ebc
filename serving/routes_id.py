"""`POST /v1/id`: the visitor's id as the server keeps it, for pages that begin with it."""

from __future__ import annotations

from serving.bodies import check_media, read_object
from serving.endpoint import Call, Room
from serving.problems import Reply, json_reply


class VisitorId:
    """Answers with the cookie's id, or a new one, and sets the cookie for another while."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def ask(self, call: Call) -> Reply:
        """The id; null where none is kept: `first_party` is off, or the visitor wants none, whose cookie then goes."""
        keeper = self._room.first_party
        if keeper is None:
            return json_reply({"anonymousId": None, "created": False})
        check_media(call.headers)
        body = read_object(call.body, self._room.settings.body.depth) if call.body else {}
        if not keeper.allowed(body, call.headers):
            reply = json_reply({"anonymousId": None, "created": False})
            reply.headers.append(keeper.set(None, call.headers, call.scope))
            return reply
        known = keeper.given(call.headers)
        chosen = known or keeper.new()
        reply = json_reply({"anonymousId": chosen, "created": known is None})
        reply.headers.append(keeper.set(chosen, call.headers, call.scope))
        reply.headers.append((b"cache-control", b"no-store"))
        return reply
