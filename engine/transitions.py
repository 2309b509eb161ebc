"""Segments entered and left, read from the records of the journal, each with a key that stays the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from engine.record import DECISION, SEGMENTS, Record

Kind = Literal["enter", "leave"]
_BEFORE, _AFTER = 9, 18


@dataclass(frozen=True, slots=True)
class Transition:
    """A profile entered a segment or left it. `since_ms` is when the stay that begins or ends began.

    `place` is where its record stands, `partition_epoch_seq_index`: with it the transition can be read again.
    """

    place: str
    root: str
    campaign: str
    segment: str
    kind: Kind
    at_ms: int
    since_ms: int

    @property
    def key(self) -> str:
        """The idempotency key: of this transition alone, and the same at every reading. It names nobody."""
        text = f"{self.place}\x00{self.campaign}.{self.segment}\x00{self.kind}"
        return "t_" + blake2b(text.encode(), digest_size=16).hexdigest()


def transitions(record: Record, place: str) -> list[Transition]:
    """What changed by a record of segments or of a decision; nothing for others, and for those that do not tell."""
    kind = record[0]
    if kind == SEGMENTS and len(record) > 4:
        before, after = record[4], record[3]
    elif kind == DECISION:
        before, after = record[7][_BEFORE], record[8][_AFTER]
    else:
        return []
    if after is None:
        return []
    return [*_changes(record, place, "leave", before, after), *_changes(record, place, "enter", after, before)]


def _changes(
    record: Record, place: str, kind: Kind, there: Mapping[str, Sequence[int]], gone: Mapping[str, Sequence[int]]
) -> list[Transition]:
    found = []
    for key, since in there.items():
        if key not in gone:
            campaign, _, segment = key.partition(".")
            found.append(Transition(place, record[1], campaign, segment, kind, record[2], since[0]))
    return found
