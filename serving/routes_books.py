"""The campaign book and the models over HTTP."""

from __future__ import annotations

from typing import Final

from actors.dry_running import MAX_DECISIONS
from engine.errors import InvalidInput, Unavailable
from engine.fields import identifier, refuse
from serving.bodies import YAML_TYPES, check_media, read_object
from serving.endpoint import Call, Room
from serving.problems import Reply, json_reply
from serving.routes_rollouts import SOMEBODY, canary_share

DRY_RUN_LIMIT: Final = 500
"""Decisions of each shard that a dry run looks at unless told otherwise."""


class Books:
    """Which book is in force, and changing it."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def read(self, call: Call) -> Reply:
        """The book in force with its version; as YAML where that is asked for."""
        book = await self._room.worlds.current_book()
        accepted = (call.header(b"accept") or "").lower()
        if "yaml" in accepted and isinstance(text := book.get("yaml"), str):
            version = str(book.get("version", "")).encode("ascii", "replace")
            return Reply(200, text.encode(), [(b"content-type", b"application/yaml"), (b"etag", b'"%b"' % version)])
        return json_reply(book)

    async def replace(self, call: Call) -> Reply:
        """Replace the whole book, from YAML or JSON."""
        if (canary := call.query("canary")) is not None:
            return await self._try(call, canary_share(canary))
        return json_reply({"version": await self._room.worlds.put_book(self._source(call))})

    async def _try(self, call: Call, share: float) -> Reply:
        """To a share of users first: 202 with the rollout that decides what becomes of it."""
        if self._room.rollouts is None:
            raise Unavailable("no_rollouts", "this Kairos has no rollouts: replace the book as a whole")
        by, why = call.query("by") or SOMEBODY, call.query("why") or "a new campaign book"
        return json_reply(await self._room.rollouts.start_book(self._source(call), share, by, why), 202)

    async def dry_run(self, call: Call) -> Reply:
        """Which of the newest decisions would come out otherwise under this book; nothing is changed."""
        limit, given = DRY_RUN_LIMIT, call.query("limit")
        if given is not None:
            if not (given.isascii() and given.isdigit() and len(given) < 5 and 1 <= int(given) <= MAX_DECISIONS):
                raise refuse("limit", given, f"a number from 1 to {MAX_DECISIONS}", "bad_limit")
            limit = int(given)
        return json_reply(await self._room.worlds.dry_run(self._source(call), limit))

    def _source(self, call: Call) -> str:
        if check_media(call.headers, YAML_TYPES) == b"application/json":
            read_object(call.body, self._room.settings.body.depth)
        try:
            return call.body.decode()
        except UnicodeDecodeError as error:
            line = call.body.count(b"\n", 0, error.start) + 1
            what = f"campaigns.yaml:{line}: byte {error.start} is not UTF-8; save the file as UTF-8"
            raise InvalidInput("bad_book", what) from None

    async def roll_back(self, call: Call) -> Reply:
        """Put an earlier version in force again."""
        check_media(call.headers)
        body = read_object(call.body, self._room.settings.body.depth)
        version = identifier("version", body.get("version"), "bad_version")
        if version is None:
            raise InvalidInput("bad_version", "version: found nothing, expected the version of an earlier book")
        return json_reply({"version": await self._room.worlds.rollback_book(version)})

    async def models(self, call: Call) -> Reply:  # noqa: ARG002 (the endpoint hands every call over)
        """The models with their cards."""
        return json_reply({"models": await self._room.worlds.models()})
