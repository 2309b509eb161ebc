"""Many deadlines on one timer of the loop: most are met, and a timer of its own for each costs more than to note it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

NEVER: Final = float("inf")
EARLY_S: Final = 0.0005
"""Loops round their timers to milliseconds."""


class Alarms:
    """Verbs: set, and off. Belongs to one event loop."""

    def __init__(self) -> None:
        self._due: dict[int, tuple[float, Callable[[], None]]] = {}
        self._last = 0
        self._next_s = NEVER
        self._timer: asyncio.TimerHandle | None = None

    def set(self, loop: asyncio.AbstractEventLoop, due_s: float, strike: Callable[[], None]) -> int:
        """Have `strike` called at `due_s` of the loop's time; returns what to turn it off by."""
        self._last = alarm = self._last + 1
        self._due[alarm] = (due_s, strike)
        if due_s < self._next_s:
            self._wind(loop, due_s)
        return alarm

    def off(self, alarm: int) -> None:
        """Nobody wants it any more, or it has struck."""
        self._due.pop(alarm, None)

    def _wind(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_s, self._timer = due_s, loop.call_at(due_s, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next_s, self._timer = NEVER, None
        now_s = loop.time() + EARLY_S
        due = [alarm for alarm, (due_s, _) in self._due.items() if due_s <= now_s]
        strikes = [self._due.pop(alarm)[1] for alarm in due]
        # Before anything is struck: what that does may set and turn off others.
        if self._due:
            self._wind(loop, min(due_s for due_s, _ in self._due.values()))
        for strike in strikes:
            strike()
