"""The world pointer made to say what the board of rollouts says, whoever was killed in between."""

from __future__ import annotations

from typing import Any, Protocol

from actors.stores import Versions
from engine.errors import NotFound
from engine.prior import PriorModel
from training.rollout import Phase
from training.rollout_board import Board


class Moved(Protocol):
    """Why each shard that cannot try the candidate cannot."""

    @property
    def refused(self) -> tuple[str, ...]: ...


class MovesWorld(Protocol):
    """The verbs of `actors.publishing.Publisher` by which a trial begins, changes and ends."""

    async def begin_trial(self, rollout: str, kind: str, candidate: str, stage: str, share: float = 0.0) -> Moved: ...
    async def set_trial(self, rollout: str, stage: str, share: float) -> Moved: ...
    async def end_trial(self, rollout: str, *, promoted: bool) -> Moved: ...


class Alignment:
    """One verb: align. It may be repeated, by any process, at any time."""

    def __init__(self, versions: Versions, moves: MovesWorld) -> None:
        self._versions, self._moves = versions, moves

    async def align(self, board: Board, *, ask: bool = False) -> str | None:
        """Make the world pointer say what the board says; returns what makes the comparison impossible, if anything.

        With `ask` the shards are asked anew whether they can try the candidate, though nothing has changed.
        """
        pointer = await self._versions.world()
        trial, running = pointer.get("rollout"), board.running
        if trial is not None and (running is None or trial["id"] != running.id):
            promoted = any(one.id == trial["id"] and one.phase is Phase.PROMOTED for one in board.ended)
            await self._moves.end_trial(trial["id"], promoted=promoted)
            trial, pointer = None, await self._versions.world()
        wanted = running.pointer() if running is not None else None
        if running is None or wanted is None:
            return None
        champion = champion_of(pointer, running.kind)
        if champion != running.champion:
            return f"{running.kind} {running.champion}, with which it was compared, is replaced by {champion}"
        try:
            if trial is None:
                moved = await self._moves.begin_trial(
                    running.id, running.kind, running.candidate, wanted["stage"], wanted["share"]
                )
            elif ask or (trial["stage"], trial["share"]) != (wanted["stage"], wanted["share"]):
                moved = await self._moves.set_trial(running.id, wanted["stage"], wanted["share"])
            else:
                return None
        except NotFound as gone:
            return gone.message
        return "; ".join(moved.refused) or None


def champion_of(pointer: dict[str, Any], kind: str) -> str:
    """The version in force."""
    return str(pointer.get(kind) or (PriorModel.version if kind == "model" else ""))
