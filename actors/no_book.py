"""What a shard does before any campaign book is published: all that asks nothing of one."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

from engine.compiled import CompiledBook
from engine.world import World

NEEDS_BOOK: Final = frozenset({"observe", "decide", "score", "dry_run"})
"""Operations that a book has a say in: its segments, its currency, its campaigns."""


def world_without_book() -> World:
    """A world that offers nothing, for the operations that look at none."""
    return World(CompiledBook("", "EUR", ZoneInfo("UTC"), {}, {}, {}, frozenset(), frozenset(), 1.0), None)
