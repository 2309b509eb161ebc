"""A calendar queue: cases by when they are due, a day of the calendar being a second (Brown 1988, CACM 31:10)."""

from __future__ import annotations

import heapq
from typing import Final

from training.outcomes import Case

DAY_MS: Final = 1000


class CalendarQueue:
    """Verbs: add, take, longest_ms. To add and to take costs the same however many wait."""

    def __init__(self) -> None:
        self._days: list[int] = []
        """A heap of the days on which something is due."""
        self._due: dict[int, list[Case]] = {}
        self._longest_ms: dict[int, int] = {}

    def add(self, case: Case) -> None:
        """Have a case taken when its time is over."""
        day, span_ms = case.due_ms // DAY_MS, case.due_ms - case.t_ms
        due = self._due.get(day)
        if due is None:
            heapq.heappush(self._days, day)
            self._due[day], self._longest_ms[day] = [case], span_ms
        else:
            due.append(case)
            self._longest_ms[day] = max(self._longest_ms[day], span_ms)

    def take(self, now_ms: int) -> list[Case]:
        """Those that are due by now, of which some may have been withdrawn; each is given once."""
        found: list[Case] = []
        while self._days and self._days[0] * DAY_MS <= now_ms:
            day = self._days[0]
            due = self._due[day]
            waiting = [case for case in due if case.due_ms > now_ms] if now_ms < (day + 1) * DAY_MS - 1 else []
            found += [case for case in due if case.due_ms <= now_ms] if waiting else due
            if waiting:
                self._due[day] = waiting
                break
            heapq.heappop(self._days)
            del self._due[day], self._longest_ms[day]
        return found

    def longest_ms(self) -> int:
        """At least the longest time that a case which waits is kept waiting from its decision on; 0 for none."""
        return max(self._longest_ms.values(), default=0)
