"""Every deadline strikes at its time, whichever was set first; one that was met does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from serving.alarms import Alarms


class Loop:
    """A loop whose clock is turned by hand; it knows one timer at a time."""

    def __init__(self) -> None:
        self.now_s, self.timers = 100.0, list[tuple[float, Callable[..., None], tuple[Any, ...]]]()

    def time(self) -> float:
        return self.now_s

    def call_at(self, due_s: float, strike: Callable[..., None], *arguments: Any) -> Any:
        timer = (due_s, strike, arguments)
        self.timers.append(timer)
        loop = self

        class Handle:
            def cancel(self) -> None:
                loop.timers.remove(timer)

        return Handle()

    def turn_to(self, now_s: float) -> None:
        while due := [timer for timer in self.timers if timer[0] <= now_s]:
            timer = min(due, key=lambda one: one[0])
            self.timers.remove(timer)
            self.now_s = max(self.now_s, timer[0])
            timer[1](*timer[2])
        self.now_s = now_s


def test_each_strikes_at_its_time_on_one_timer() -> None:
    loop, alarms, struck = Loop(), Alarms(), list[tuple[str, float]]()

    def note(name: str) -> Callable[[], None]:
        return lambda: struck.append((name, loop.now_s))

    alarms.set(loop, 105.0, note("late"))  # type: ignore[arg-type]
    alarms.set(loop, 101.0, note("soon"))  # type: ignore[arg-type]
    met = alarms.set(loop, 100.5, note("met"))  # type: ignore[arg-type]
    alarms.set(loop, 103.0, note("between"))  # type: ignore[arg-type]
    alarms.off(met)
    assert len(loop.timers) == 1
    loop.turn_to(110.0)
    assert struck == [("soon", 101.0), ("between", 103.0), ("late", 105.0)]
    assert loop.timers == []
    alarms.off(met)
    alarms.set(loop, 109.0, note("past"))  # type: ignore[arg-type]
    loop.turn_to(110.0)
    assert struck[-1][0] == "past"


async def test_on_a_real_loop_the_deadline_is_kept() -> None:
    loop, alarms = asyncio.get_running_loop(), Alarms()
    began_s, struck = loop.time(), loop.create_future()
    alarms.set(loop, began_s + 60.0, lambda: None)
    alarms.set(loop, began_s + 0.02, lambda: struck.set_result(loop.time()))
    assert await asyncio.wait_for(struck, 5) - began_s >= 0.019
