"""The board of rollouts in the store: changed by compare-and-set, every change with its lines of the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from actors.stores import Documents, Versions
from engine.errors import Conflict
from training.rollout import Event
from training.rollout_board import Board, Change

BOARD: Final = "rollouts"
AUDIT: Final = "rollout"
ATTEMPTS: Final = 20
RECENT: Final = 40
"""Lines that travel with the board until it is certain that the log has them."""


class RolloutLog:
    """Verbs: board, change, mend, audit. Any process may change the board; whoever comes second looks again."""

    def __init__(self, documents: Documents, versions: Versions) -> None:
        self._documents, self._versions = documents, versions

    async def board(self) -> Board:
        """The board as it stands."""
        found = await self._documents.get(BOARD)
        return Board.from_dict(found[1]["board"]) if found else Board()

    async def change(self, make: Callable[[Board], Change | None]) -> tuple[Board, list[Event]]:
        """Put what `make` makes of the board in its place; None or no event leaves it alone.

        Raises:
            engine.errors.Conflict: `rollouts_conflict`; and whatever `make` raises, nothing being changed then.
        """
        for _ in range(ATTEMPTS):
            rev, held = await self._documents.get(BOARD) or (0, {"board": {}, "n_events": 0, "recent": []})
            board = Board.from_dict(held["board"])
            made = make(board)
            if made is None or not made[1]:
                return board, []
            after, events = made
            lines = [{"n": held["n_events"] + i, **event.to_dict()} for i, event in enumerate(events, 1)]
            recent = [*held["recent"], *lines][-RECENT:]
            document = {"board": after.to_dict(), "n_events": held["n_events"] + len(lines), "recent": recent}
            # What a JSON of the store would not give back as it was is no number to act upon either.
            document = orjson.loads(orjson.dumps(document))
            if await self._documents.compare_and_set(BOARD, rev, document):
                for line in lines:
                    await self._write(line)
                return after, events
        raise Conflict("rollouts_conflict", "the rollouts are being changed by others all the time; try again")

    async def mend(self) -> None:
        """Write the lines that a killed process may have left out."""
        found = await self._documents.get(BOARD)
        for line in found[1]["recent"] if found else ():
            await self._write(line)

    async def audit(self, limit: int = 200) -> list[dict[str, Any]]:
        """The newest lines of the log, newest first."""
        lines = [meta for _, meta in await self._versions.list(AUDIT)]
        return sorted(lines, key=lambda line: -line["n"])[:limit]

    async def _write(self, line: dict[str, Any]) -> None:
        line = orjson.loads(orjson.dumps(line))
        await self._versions.put(AUDIT, f"{line['n']:08d}", {**line, "created_ms": line["at_ms"]}, orjson.dumps(line))
