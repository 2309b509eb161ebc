"""A row of a file into an event of the contract, as the map says."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

from engine.durations import parse_duration_ms
from engine.moments import parse_moment
from serving.mapping import PLAIN_TYPES, ReplayMap, Timestamp, Value
from serving.rows import Found, Malformed, Row

MAX_TWINS = 262_144
"""How many different rows are remembered to number identical ones."""
NOT_UTF_8 = "\ufffd"
"""What stands in the text for bytes that are no letter."""
_HOLE = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Mapped:
    """An event ready for `/v1/batch`, whose visitor it is (`who`) and when it happened."""

    line: int
    who: str
    t_ms: int
    event: dict[str, Any]


class EventMapper:
    """Maps rows. A second mapper over the same file makes the same events, message ids included.

    Identical rows are numbered, so that two equal lines are two events; the last 262,144 different rows are
    remembered for that.
    """

    def __init__(self, mapping: ReplayMap) -> None:
        self._map = mapping
        self._moment = _moment_reader(mapping.timestamp)
        self._skips = [(skip.column, re.compile(skip.matches)) for skip in mapping.skip]
        self._twins: OrderedDict[bytes, int] = OrderedDict()

    def map(self, found: Found) -> Mapped | Malformed | None:
        """The event of a row; None where the map says to skip it."""
        row = found.row
        if any(pattern.search(_text(row.get(column))) for column, pattern in self._skips):
            return None
        name = self._name(row)
        if name is None:
            return None if self._map.event.other == "skip" else Malformed(found.line, self._unknown_event(row))
        ids = self._ids(row)
        if not ids:
            return Malformed(found.line, "no identity in it")
        if any(NOT_UTF_8 in name for name in ids.values()):
            # Two names that differ in such a letter alone would become one visitor.
            return Malformed(found.line, "its identity is not UTF-8")
        try:
            t_ms = self._moment(row)
            properties = _given(self._map.properties, row)
        except ValueError as error:
            return Malformed(found.line, str(error))
        event = {**ids, "messageId": self._message_id(found), "timestamp": t_ms, **_typed(name, properties)}
        if context := self._context(row):
            event["context"] = context
        return Mapped(found.line, next(iter(ids.values())), t_ms, event)

    def _name(self, row: Row) -> str | None:
        event = self._map.event
        if event.column is None:
            return event.value
        given = _text(row.get(event.column))
        return event.map.get(given, given if event.other == "keep" and given else None)

    def _unknown_event(self, row: Row) -> str:
        event = self._map.event
        found = _text(row.get(event.column or ""))[:60]
        return f"{event.column}: found {found!r}, expected one of {', '.join(event.map)}"

    def _ids(self, row: Row) -> dict[str, str]:
        ids = self._map.identity
        both = {"userId": ids.userId, "anonymousId": ids.anonymousId}
        return {k: str(v) for k, s in both.items() if s is not None and (v := read_value(s, row)) not in (None, "")}

    def _context(self, row: Row) -> dict[str, Any]:
        context = _given(self._map.context, row)
        if self._map.userAgent is not None and (agent := read_value(self._map.userAgent, row)):
            context["userAgent"] = str(agent)
        return context

    def _message_id(self, found: Found) -> str:
        if self._map.messageId is not None and (given := read_value(self._map.messageId, found.row)):
            return str(given)
        digest = blake2b(found.content.encode("utf-8", "replace"), digest_size=12)
        twins, key = self._twins, digest.digest()
        n_before = twins.get(key, 0)
        twins[key] = n_before + 1
        twins.move_to_end(key)
        if len(twins) > MAX_TWINS:
            twins.popitem(last=False)
        return f"r-{digest.hexdigest()}-{n_before}"


def _given(sources: dict[str, Value], row: Row) -> dict[str, Any]:
    values = ((name, read_value(source, row)) for name, source in sources.items())
    return {name: value for name, value in values if value is not None}


def read_value(source: Value, row: Row) -> str | int | float | bool | None:
    """A value as the map describes it; None where the row has nothing there.

    Raises:
        ValueError: where it is not of the type that the map says.
    """
    if source.value is not None:
        return source.value
    if source.column is not None:
        given = row.get(source.column)
    else:
        given = fill(source.template or "", row)
    if given is None or given == "":
        return None
    if source.map is not None:
        return source.map.get(_text(given))
    if source.type == "text":
        return _text(given)
    try:
        return _as_type(source.type, given)
    except (ValueError, OverflowError):
        where = source.column or source.template
        raise ValueError(f"{where}: found {_text(given)[:60]!r}, expected a {source.type}") from None


def fill(template: str, row: Row) -> str | None:
    """A template with its `{column}`s replaced; None where one of them is empty.

    >>> fill("otto-{session}", {"session": 7})
    'otto-7'
    """
    values = {column: _text(row.get(column)) for column in _HOLE.findall(template)}
    if not all(values.values()):
        return None
    return _HOLE.sub(lambda hole: values[hole.group(1)], template)


def _as_type(kind: str, given: Any) -> int | float | bool:
    if kind == "boolean":
        if str(given).lower() in ("true", "1", "yes"):
            return True
        if str(given).lower() in ("false", "0", "no"):
            return False
        raise ValueError
    if kind == "integer":
        return int(given)
    number = float(given)
    if not abs(number) < 1e300:
        raise ValueError
    return number


def _text(given: Any) -> str:
    return "" if given is None else str(given)


def _typed(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    if name == "identify":
        return {"type": "identify", "traits": properties}
    if name in PLAIN_TYPES:
        return {"type": name, "properties": properties}
    return {"type": "track", "event": name, "properties": properties}


def _moment_reader(stamp: Timestamp) -> Any:
    zone, source = ZoneInfo(stamp.zone), stamp.source
    step_ms = parse_duration_ms(stamp.order.step) if stamp.order is not None else 0

    @lru_cache(maxsize=4096)
    def read(text: str) -> int:
        return _epoch_ms(text, stamp.format, zone)

    def moment(row: Row) -> int:
        given = row.get(source.column) if source.column is not None else fill(source.template or "", row)
        try:
            t_ms = read(_text(given))
            return t_ms + round(float(row[stamp.order.column]) * step_ms) if stamp.order is not None else t_ms
        except (ValueError, KeyError, OverflowError, TypeError):
            hint = "; `format: epoch_ms` or epoch_s reads numbers" if _text(given).isdecimal() else ""
            raise ValueError(f"time: found {_text(given)[:60]!r}, expected {stamp.format}{hint}") from None

    return moment


def _epoch_ms(text: str, form: str, zone: ZoneInfo) -> int:
    if form in ("epoch_ms", "epoch_s"):
        return round(float(text) * (1 if form == "epoch_ms" else 1000))
    if form == "iso":
        if parse_moment(text) is None or text.replace(".", "", 1).isdigit():
            raise ValueError(text)
        moment = datetime.fromisoformat(text.strip())
    else:
        moment = datetime.strptime(text, form)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
