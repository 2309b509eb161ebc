"""What a segment is called. The names are the manifest: they say all that is needed to choose among segments."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from actors.stores import Position

SIGNALS, DECISIONS, OTHER = "s", "d", "o"
"""Kinds of records a segment can hold, as far as retention tells them apart."""

_NAME: Final = re.compile(
    r"p(\d{4,})/(\d{12})-(\d{12})_(\d{12})-(\d{12})_(\d{13,})-(\d{13,})_([a-z]*)_(\d+)\.(\d+)\.kseg"
)


def folder(partition: int) -> str:
    """Where the segments of a partition are."""
    return f"p{partition:04d}/"


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """Positions from `first` to `last` of a partition, received from `first_ms` to `last_ms`.

    `writer` is the epoch under which it was written; `revision` grows when the same writer writes it anew, without
    what was erased or is beyond its retention.
    """

    partition: int
    first: Position
    last: Position
    first_ms: int
    last_ms: int
    kinds: str
    writer: int
    revision: int

    def __str__(self) -> str:
        (e, s), (last_e, last_s) = self.first, self.last
        return (
            f"{folder(self.partition)}{e:012d}-{s:012d}_{last_e:012d}-{last_s:012d}"
            f"_{self.first_ms:013d}-{self.last_ms:013d}_{self.kinds}_{self.writer}.{self.revision}.kseg"
        )

    @classmethod
    def parse(cls, text: str) -> SegmentName | None:
        """Read the text form back; None for anything else.

        >>> name = SegmentName(7, (1, 2), (3, 4), 1764000000000, 1764000000001, "ds", 3, 0)
        >>> SegmentName.parse(str(name)) == name
        True
        """
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        p, e, s, last_e, last_s, first_ms, last_ms = (int(part) for part in match.groups()[:7])
        kinds, writer, revision = match[8], int(match[9]), int(match[10])
        return cls(p, (e, s), (last_e, last_s), first_ms, last_ms, kinds, writer, revision)

    def replaces(self, other: SegmentName) -> bool:
        """Whether all that the other holds is here, and not older: rewritten, merged, or a later writer's.

        What a writer puts over the same positions later is of a higher revision; what it puts over more of them is
        made of all that it had there.
        """
        if self.partition != other.partition or not (self.first <= other.first and other.last <= self.last):
            return False
        if (self.first, self.last) == (other.first, other.last):
            return (self.writer, self.revision) > (other.writer, other.revision)
        return self.writer >= other.writer


def in_force(names: Iterable[SegmentName]) -> list[SegmentName]:
    """Those of a partition's segments that no other replaces, in order."""
    kept: list[SegmentName] = []
    near: list[SegmentName] = []
    replaced: set[SegmentName] = set()
    for name in sorted(names):
        near = [other for other in near if other.last >= name.first]
        replaced.update(other for other in near if name.replaces(other))
        if any(other.replaces(name) for other in near):
            replaced.add(name)
        near.append(name)
        kept.append(name)
    return [name for name in kept if name not in replaced]
