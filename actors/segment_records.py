"""What an archive asks of the records in journal entries: whose they are, what kind for retention, and without some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from actors.segment import Row
from actors.segment_name import DECISIONS, OTHER, SIGNALS
from actors.stores import Position
from engine.record import DECISION, FORMAT, REWARD, SEGMENTS, SUPERSEDED, VISIT, Head, Record, only_head
from engine.record import SIGNALS as SIGNALS_RECORD

KIND_OF: Final = {
    SIGNALS_RECORD: SIGNALS, SEGMENTS: SIGNALS, DECISION: DECISIONS, REWARD: DECISIONS, SUPERSEDED: DECISIONS,
    VISIT: DECISIONS,
}  # fmt: skip

Unwanted = Callable[[Position, int, Record], bool]
"""Whether a record is to go, by the position of its entry and its index there."""


def heads_in(payload: bytes) -> list[Head]:
    """How the records of an entry begin that are still there."""
    head = only_head(payload)
    if head is not None:
        return [head]
    return [Head(*record[:3]) for record in orjson.loads(payload)[1:] if record is not None]


def kind_of(record: Record | Head) -> str:
    """The kind of a record as far as retention tells them apart."""
    return KIND_OF.get(record[0], OTHER)


def of_kinds(kinds: frozenset[str]) -> Unwanted:
    """Unwanted is what is of these kinds."""
    return lambda _position, _index, record: kind_of(record) in kinds


def without(rows: list[Row], unwanted: Unwanted) -> tuple[list[Row], int]:
    """Entries whose unwanted records are null, so that the others keep their index; and how many records that were."""
    kept: list[Row] = []
    removed = 0
    for position, payload in rows:
        records = orjson.loads(payload)[1:]
        left = [None if r is not None and unwanted(position, i, r) else r for i, r in enumerate(records)]
        n = sum(1 for a, b in zip(records, left, strict=True) if a is not b)
        removed += n
        kept.append((position, orjson.dumps([FORMAT, *left]) if n else payload))
    return kept, removed
