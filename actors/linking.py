"""Asking for two identities to be joined, whichever of their profiles turns out to be the one that stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from actors.asking import Reply

ROUNDS: Final = 6
Ask = Callable[[str, str, dict[str, Any]], Awaitable[Reply]]
"""(track, operation, payload) → the reply of whoever holds the track."""


async def link(ask: Ask, named: str, to: str) -> Reply:
    """Join the profiles of two identities: `{"linked": true, "root"}`, or `{"linked": false, "root", "refused"}`.

    A shard that finds that the other side should move, or has moved on, says whom to ask `instead`; every such step
    ends at a more personal identity, so there are few. Errors and `unavailable` are handed back as they come.
    """
    reply: Reply = {}
    for _ in range(ROUNDS):
        reply = await ask(named, "link", {"to": to})
        if "instead" not in reply:
            return reply
        named, to = reply["instead"]
    return {"unavailable": {"code": "recovering", "message": "the identities are being linked by others just now"}}
