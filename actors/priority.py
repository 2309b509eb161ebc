"""Standing back: work that must never cost a visitor a millisecond runs only on processors that nobody else wants."""

from __future__ import annotations

import os
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


def _threads() -> list[int]:
    tasks = Path("/proc/self/task")
    return [int(entry.name) for entry in tasks.iterdir()] if tasks.is_dir() else [0]
