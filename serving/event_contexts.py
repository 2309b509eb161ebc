"""Contexts of the events of one request, normalised once each: one queue mostly sends the same in every event."""

from __future__ import annotations

from typing import Any

import orjson

from engine.events import Event
from serving.endpoint import Call, Room

Read = tuple[dict[str, Any], dict[str, bool]]
"""A normalised context, and the consent in it."""


class EventContexts:
    """Reads what comes with events; equal contexts give the same objects, which nobody changes."""

    def __init__(self, room: Room, call: Call) -> None:
        self._room, self._received_ms = room, call.received_ms
        self._hints, self._gpc = call.hints(), call.header(b"sec-gpc")
        self._known: dict[bytes, Read] = {}

    def read(self, event: Event) -> Read:
        """The context of an event as it is recorded, and the consent of its visitor."""
        # By their JSON: for Python {"saveData": 1} and {"saveData": true} are equal.
        key = orjson.dumps(event.context)
        known = self._known.get(key)
        if known is None:
            consent = self._room.consents.read(event.consent, self._gpc)
            context = self._room.contexts.read(
                event.context, self._hints, self._received_ms, locate=consent["personalisation"]
            )
            known = self._known[key] = context, consent
        return known
