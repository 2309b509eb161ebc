"""Moments on the wire: ISO 8601 or epoch milliseconds, read into epoch milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from engine.errors import InvalidInput

EARLIEST_MS: Final = 946_684_800_000
"""2000-01-01T00:00:00Z."""
DAY_MS: Final = 86_400_000
EXPECTED: Final = "ISO 8601 or epoch milliseconds, from 2000-01-01 to 24 h from now"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_USUAL: Final = "--T::."
"""What stands between the digits of 2024-05-01T12:00:00.000Z, as browsers and Segment write it."""
_SHAPE: Final = re.compile(
    r"\d{4}-?\d{2}-?\d{2}([T ]\d{2}(:?\d{2}(:?\d{2}([.,]\d{1,9})?)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?", re.ASCII
)


def parse_moment(value: object) -> int | None:
    """Read a moment; None if it is none. No zone means UTC, and a fraction of a millisecond is cut off.

    >>> parse_moment("2024-05-01T12:00:00+02:00"), parse_moment("2024-05-01"), parse_moment(1714557600000)
    (1714557600000, 1714521600000, 1714557600000)
    """
    if isinstance(value, str):
        text = value.strip().upper()
        usual = len(text) == 24 and text[4:20:3] == _USUAL and text[-1] == "Z"
        if not usual and (len(text) > 40 or _SHAPE.fullmatch(text) is None):
            return None
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            since = moment - _EPOCH
            return since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000
        except (ValueError, OverflowError):
            return None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e16:
        return int(value)
    return None


def check_moment(name: str, value: object, now_ms: int) -> int:
    """Read a moment that must lie between 2000-01-01 and 24 h from now.

    Raises:
        InvalidInput: `bad_timestamp`, naming the property.
    """
    moment = parse_moment(value)
    if moment is None or not EARLIEST_MS <= moment <= now_ms + DAY_MS:
        hint = "; it looks like seconds" if moment is not None and 946_684_800 <= moment < 1e11 else ""
        raise InvalidInput("bad_timestamp", f"{name}: found {str(value)[:60]!r}, expected {EXPECTED}{hint}")
    return moment
