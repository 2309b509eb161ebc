"""What a segment is called. The names are the manifest: they say all that is needed to choose among segments."""

from __future__ import annotations

import re
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

    `writer` is the epoch under which it was written, `revision` grows when it is written anew without what was erased
    or is beyond its retention.
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
        """Whether all that the other holds is here, and newer: a later revision, or a later writer's wider one."""
        if (self.partition, self.first, self.last, self.writer) == (
            other.partition, other.first, other.last, other.writer,
        ):  # fmt: skip
            return self.revision > other.revision
        return self.writer > other.writer and self.first <= other.first and other.last <= self.last
