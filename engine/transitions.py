"""Segments entered and left, read from the records of the journal, each with a key that stays the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from engine.record import DECISION, SEGMENTS, Record
from engine.sticky import holdout_key

Kind = Literal["enter", "leave"]
_BEFORE, _KNOWN, _AFTER, _NEW = 9, 11, 18, 19
"""Where memberships and assignments stand in the inputs of a recorded decision, and in the decision."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A profile entered a segment or left it. `since_ms` is when the stay that begins or ends began.

    `place` is where its record stands, `partition_epoch_seq_index`: with it the transition can be read again. `held`
    is whether the visitor had been put into the campaign's holdout; None where nothing had been assigned yet.
    """

    place: str
    root: str
    campaign: str
    segment: str
    kind: Kind
    at_ms: int
    since_ms: int
    held: bool | None = None

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
        assigned = record[5] if len(record) > 5 else {}
    elif kind == DECISION:
        before, after = record[7][_BEFORE], record[8][_AFTER]
        assigned = {**record[8][_NEW], **record[7][_KNOWN]}
    else:
        return []
    if after is None:
        return []
    held = {key: bool(of[0]) for key, of in assigned.items()}
    left = _changes(record, place, "leave", before, after, held)
    return [*left, *_changes(record, place, "enter", after, before, held)]


def _changes(
    record: Record, place: str, kind: Kind, there: Mapping[str, Sequence[int]], gone: Mapping[str, Sequence[int]],
    held: Mapping[str, bool],
) -> list[Transition]:  # fmt: skip
    found = []
    for key, since in there.items():
        if key not in gone:
            campaign, _, segment = key.partition(".")
            of = held.get(holdout_key(campaign))
            found.append(Transition(place, record[1], campaign, segment, kind, record[2], since[0], of))
    return found
