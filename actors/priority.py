"""Standing back: work that must never cost a visitor a millisecond runs only on processors that nobody else wants."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

LOWEST: Final = 19
BEHIND: Final = 10


def let_visitors_first() -> None:
    """Niceness 10 for this process: an eleventh of a visitor's weight where both want a processor, and never none."""
    with suppress(OSError, AttributeError):
        for thread in _threads():
            os.setpriority(os.PRIO_PROCESS, thread, BEHIND)


def stand_back() -> list[str]:
    """Lower this process, with every thread it has, as far as the platform can; says what was done.

    Niceness 19, and Linux's idle class (SCHED_IDLE), which runs beside others at a three-hundredth of their weight.
    Threads started afterwards inherit both. There is no way back without privileges: for a process of its own only.
    Both hold within one session alone where Linux groups by sessions what it schedules (autogroup, on most machines):
    whoever this process is to stand behind has to be in the same one.
    """
    done = []
    threads = _threads()
    with suppress(OSError, AttributeError):
        for thread in threads:
            os.setpriority(os.PRIO_PROCESS, thread, LOWEST)
        done.append(f"nice {LOWEST}")
    with suppress(OSError, AttributeError):
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        done.append("SCHED_IDLE")
    return done


class Pace:
    """Keeps a thread's work to a share of one processor, resting between its steps. Verb: after.

    The idle class keeps work off the run queue only: whoever runs on the other thread of the same core still shares
    its units and caches with it, and on a small machine that is every second visitor.
    """

    def __init__(
        self,
        share: float,
        worked_s: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rest, self._worked_s, self._sleep = 1.0 / share - 1.0, worked_s, sleep
        self._since_s: float | None = None

    def after(self, told: Callable[[float], None]) -> Callable[[float], None]:
        """The same hearer of progress, that rests after each step as long as the share asks for."""

        def heard(share: float) -> None:
            told(share)
            now_s = self._worked_s()
            if self._since_s is not None and self._rest > 0.0:
                self._sleep((now_s - self._since_s) * self._rest)
            self._since_s = self._worked_s()

        return heard


def _threads() -> list[int]:
    tasks = Path("/proc/self/task")
    return [int(entry.name) for entry in tasks.iterdir()] if tasks.is_dir() else [0]
