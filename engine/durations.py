"""Durations as people write them: 60ms, 30s, 5m, 1h30m, 1d; kept as whole milliseconds."""

from __future__ import annotations

import re

UNITS_MS: dict[str, int] = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
EXPECTED = "a duration such as 60ms, 30s, 5m, 1h30m or 1d"

_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d|w)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a duration; ValueError where it is not one.

    >>> parse_duration_ms("1h30m"), parse_duration_ms("60ms"), parse_duration_ms("0.5s")
    (5400000, 60, 500)
    """
    compact = text.strip().lower()
    if not _WHOLE.fullmatch(compact):
        raise ValueError(EXPECTED)
    return round(sum(float(amount) * UNITS_MS[unit] for amount, unit in _PART.findall(compact)))


def duration_ms(value: object) -> int | None:
    """Milliseconds of a duration, None for what is none."""
    try:
        return parse_duration_ms(value) if isinstance(value, str) else None
    except ValueError:
        return None


def duration_text(ms: int) -> str:
    """The shortest way to write it again.

    >>> duration_text(5_400_000), duration_text(60), duration_text(0)
    ('1h30m', '60ms', '0s')
    """
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
