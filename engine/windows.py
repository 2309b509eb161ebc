"""When an offer may be shown: dates, hours of the day and days of the week, by the book's clock or the visitor's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Window:
    """Local moments: `start` included, `end` not; `hours` may pass midnight (22 to 6); None is no limit."""

    zone: ZoneInfo
    visitors: bool
    start: datetime | None = None
    end: datetime | None = None
    hours: tuple[float, float] | None = None
    weekdays: frozenset[int] | None = None

    def refusal(self, now_ms: int, context: Mapping[str, Any]) -> str | None:
        """The first limit that does not hold now, in words; None inside the window.

        By the visitor's clock where that is asked for and their time zone is known, else by the book's.
        """
        zone = (_zone(context.get("timezone")) if self.visitors else None) or self.zone
        if self.start is not None and now_ms < _instant_ms(self.start, zone):
            return f"it begins {self.start:%Y-%m-%d %H:%M}"
        if self.end is not None and now_ms >= _instant_ms(self.end, zone):
            return f"it ended {self.end:%Y-%m-%d %H:%M}"
        now = datetime.fromtimestamp(now_ms / 1000.0, zone)
        day = now.weekday()
        if self.hours is not None:
            low, high = self.hours
            hour = now.hour + now.minute / 60.0 + now.second / 3600.0
            inside = low <= hour < high if low < high else hour >= low or hour < high
            if not inside:
                return f"it is {now:%H:%M}, shown from {_clock(low)} to {_clock(high)}"
            if low >= high and hour < high:
                # After midnight it is still the night that began the day before.
                day = (day - 1) % 7
        if self.weekdays is not None and day not in self.weekdays:
            return f"it is {WEEKDAYS[day]}, shown on " + ", ".join(WEEKDAYS[d] for d in sorted(self.weekdays))
        return None


def parse_local(text: str, *, last: bool = False) -> datetime | None:
    """A local date or moment, None where it is neither; of a date that is `last` the moment after it.

    >>> parse_local("2026-11-30", last=True), parse_local("2026-11-30T18:00"), parse_local("30.11.2026")
    (datetime.datetime(2026, 12, 1, 0, 0), datetime.datetime(2026, 11, 30, 18, 0), None)
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is not None or len(text) > 32:
        return None
    whole_day = len(text.strip()) <= 10
    if not (last and whole_day):
        return moment
    return datetime.max if moment.date() == date.max else moment + timedelta(days=1)


def _clock(hour: float) -> str:
    return f"{int(hour):02d}:{round(hour % 1 * 60):02d}"


@lru_cache(maxsize=4096)
def _instant_ms(local: datetime, zone: ZoneInfo) -> float:
    """When a local moment is: of two in an hour that comes twice the first, in one that is left out as if it were not.

    So nothing that has ended begins anew when clocks are put back. Source: RFC 5545, 3.3.5.
    """
    return local.replace(tzinfo=zone, fold=0).timestamp() * 1000.0


@lru_cache(maxsize=512)
def _zone(name: object) -> ZoneInfo | None:
    if not isinstance(name, str) or not name:
        return None
    try:
        return ZoneInfo(name)
    except Exception:  # by what it finds at the path: absent, a folder, a broken file
        return None
