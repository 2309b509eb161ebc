"""Periods of a budget: calendar days and weeks in the book's zone, or equal parts of a day."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

DAY_MS: Final = 86_400_000


class Period(NamedTuple):
    """A stretch of time, `start_ms` included and `end_ms` (possibly infinite) not."""

    start_ms: int
    end_ms: float

    def elapsed(self, now_ms: int) -> float:
        """The share of it that has passed; 0 for one without end."""
        if math.isinf(self.end_ms):
            return 0.0
        return min(1.0, max(0.0, (now_ms - self.start_ms) / (self.end_ms - self.start_ms)))


EVER: Final = Period(0, math.inf)


def is_period(per_ms: int) -> bool:
    """Whether a budget can be counted by it: less than a day, or whole days."""
    return per_ms < DAY_MS or per_ms % DAY_MS == 0


def period_of(now_ms: int, per_ms: int | None, zone: ZoneInfo) -> Period:
    """The period a moment lies in.

    Days begin at local midnight, seven days on a Monday, n days are counted from there. Parts of a day begin at
    midnight too; where they do not divide it, the last one is shorter.

    >>> period_of(1_714_564_800_000, 7 * DAY_MS, ZoneInfo("UTC"))
    Period(start_ms=1714348800000, end_ms=1714953600000)
    """
    if per_ms is None:
        return EVER
    today = datetime.fromtimestamp(now_ms / 1000.0, zone).date()
    if per_ms >= DAY_MS:
        n_days = per_ms // DAY_MS
        first = date.fromordinal((today.toordinal() - 1) // n_days * n_days + 1)
        return Period(_midnight_ms(first, zone), _midnight_ms(first + timedelta(days=n_days), zone))
    start_ms, end_ms = _midnight_ms(today, zone), _midnight_ms(today + timedelta(days=1), zone)
    part_ms = start_ms + (now_ms - start_ms) // per_ms * per_ms
    return Period(part_ms, min(part_ms + per_ms, end_ms))


def _midnight_ms(day: date, zone: ZoneInfo) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
