"""All rollouts of a data set: one is under way, at most one waits, the newest candidate supersedes it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from engine.errors import Conflict, NotFound
from training.rollout import ENGINE, LIVE, Event, Phase, Rollout, Step, start, supersede
from training.rollout_plan import Kind, Plan

ENDED: Final = 50
"""How many ended rollouts are remembered here; what happened to all of them is in the audit log."""


@dataclass(frozen=True, slots=True)
class Board:
    """`n` rollouts were ever submitted; `running` is under way or paused, `waiting` comes next."""

    n: int = 0
    running: Rollout | None = None
    waiting: Rollout | None = None
    ended: tuple[Rollout, ...] = ()

    def find(self, rollout_id: str) -> Rollout:
        """One of them; raises NotFound `unknown_rollout`."""
        for one in self.all():
            if one.id == rollout_id:
                return one
        raise NotFound("unknown_rollout", f"there is no rollout {rollout_id}")

    def all(self) -> tuple[Rollout, ...]:
        """What is open first, then what has ended, newest first."""
        return (*(one for one in (self.running, self.waiting) if one is not None), *reversed(self.ended))

    def put(self, rollout: Rollout) -> Board:
        """With one of its rollouts as it is now."""
        left = replace(
            self,
            running=None if self.running and self.running.id == rollout.id else self.running,
            waiting=None if self.waiting and self.waiting.id == rollout.id else self.waiting,
        )
        if rollout.phase in LIVE:
            return replace(left, running=rollout)
        if rollout.phase is Phase.WAITING:
            return replace(left, waiting=rollout)
        return replace(left, ended=(*left.ended, rollout)[-ENDED:])

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "n": self.n, "running": self.running and self.running.to_dict(),
            "waiting": self.waiting and self.waiting.to_dict(), "ended": [one.to_dict() for one in self.ended],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Board:
        """What `to_dict` gave; {} is an empty board."""
        running, waiting = fields.get("running"), fields.get("waiting")
        return cls(
            fields.get("n", 0), Rollout.from_dict(running) if running else None,
            Rollout.from_dict(waiting) if waiting else None,
            tuple(Rollout.from_dict(one) for one in fields.get("ended", ())),
        )  # fmt: skip


Change = tuple[Board, list[Event]]


def submit(
    board: Board, kind: Kind, candidate: str, plan: Plan, why: str, by: str, now_ms: int,
    numbers: dict[str, Any] | None = None,
) -> Change:  # fmt: skip
    """A new candidate: it waits, and whoever waited before it is superseded. Two rollouts never overlap.

    Raises Conflict `already_submitted` for what is under way or waits already.
    """
    for one in (board.running, board.waiting):
        if one is not None and one.candidate == candidate:
            raise Conflict("already_submitted", f"{candidate} is {one.phase} already, as rollout {one.id}")
    new = Rollout(f"r{board.n + 1}", kind, candidate, plan, now_ms, why, by)
    events = [Event(new.id, "submitted", by, now_ms, f"{kind} {candidate}: {why}", numbers or {})]
    board = replace(board, n=board.n + 1)
    if board.waiting is not None:
        board, gone = taken(board, supersede(board.waiting, new, now_ms))
        events += gone
    return board.put(new), events


def taken(board: Board, step: Step) -> Change:
    """The board after a step of one of its rollouts, and what the audit log says of it."""
    return board.put(step[0]), [step[1]]


def start_waiting(
    board: Board, champion_of: Callable[[Kind], str], now_ms: int, numbers: dict[str, Any] | None = None
) -> Change | None:
    """Begin with the one that waits once nothing is under way; None where there is nothing to begin.

    A candidate that has become the champion meanwhile has nothing to show any more.
    """
    one = board.waiting
    if one is None or board.running is not None:
        return None
    champion = champion_of(one.kind)
    if champion == one.candidate:
        gone = replace(one, phase=Phase.KEPT_CHAMPION, ended_ms=now_ms, reason="it is the champion already")
        return taken(board, (gone, Event(one.id, str(gone.phase), ENGINE, now_ms, gone.reason, {})))
    return taken(board, start(one, champion, now_ms, numbers))
