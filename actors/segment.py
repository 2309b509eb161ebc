"""The form of a segment: journal entries in zstd blocks, and an index that finds one entry, or those of a track.

    KSEG1\\n | block … | index | length of the index (u32) | KSEG1\\n

A block is a zstd frame with a checksum around `epoch u64 | seq u64 | length u32 | payload` for each entry; the index
is a zstd frame around JSON: the first and last position of each block, where it lies, and a mark of each track it
names (32 bits of a hash: a block with the mark may name the track, one without does not).
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import orjson
import zstandard

from actors.stores import Position
from engine.errors import Unavailable

MAGIC: Final = b"KSEG1\n"
BLOCK_BYTES: Final = 128 * 1024
LEVEL: Final = 1
_HEAD: Final = struct.Struct(">QQI")
_LENGTH: Final = struct.Struct(">I")
TRAILER: Final = _LENGTH.size + len(MAGIC)

Row = tuple[Position, bytes]


class DamagedSegment(Unavailable):
    """A segment is not what was written."""


@dataclass(frozen=True, slots=True)
class Block:
    """Where some consecutive entries lie in their segment."""

    first: Position
    last: Position
    start: int
    length: int
    packed_marks: str

    @property
    def marks(self) -> frozenset[int]:
        """Of each track that it names; unpacked when it is asked for, which who reads by position never does."""
        return _unpack_marks(self.packed_marks)


def mark(track_id: str) -> int:
    """A track as the index knows it.

    >>> mark("user:ada") == mark("user:ada") != mark("user:bob")
    True
    """
    return int.from_bytes(blake2b(track_id.encode(), digest_size=4).digest(), "big")


def pack_block(rows: Collection[Row]) -> bytes:
    """A block of these entries."""
    raw = b"".join([_HEAD.pack(*position, len(payload)) + payload for position, payload in rows])
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(raw)


def unpack_block(packed: bytes) -> list[Row]:
    """Read `pack_block` back.

    Raises:
        DamagedSegment: a bit has changed.
    """
    return list(_rows(_unzipped(packed)))


def _rows(raw: bytes) -> Iterator[Row]:
    at = 0
    while at < len(raw):
        epoch, seq, length = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        yield (epoch, seq), raw[at : at + length]
        at += length


class SegmentForm:
    """A segment as it is put together. Verbs: add (a packed block), finish."""

    def __init__(self) -> None:
        self._parts = [MAGIC]
        self._blocks: list[Block] = []
        self._at = len(MAGIC)

    def add(self, first: Position, last: Position, packed: bytes, marks: Collection[int]) -> None:
        """The next block, with the marks of every track that it names."""
        self._parts.append(packed)
        self._blocks.append(Block(first, last, self._at, len(packed), _pack_marks(marks)))
        self._at += len(packed)

    def finish(self) -> bytes:
        """The whole segment."""
        rows = [[*b.first, *b.last, b.start, b.length, b.packed_marks] for b in self._blocks]
        index = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(orjson.dumps(rows))
        return b"".join([*self._parts, index, _LENGTH.pack(len(index)), MAGIC])


def index_length(trailer: bytes) -> int:
    """How many bytes before the trailer the index begins.

    Raises:
        DamagedSegment: these are not the last bytes of a segment.
    """
    if len(trailer) < TRAILER or trailer[-len(MAGIC) :] != MAGIC:
        raise DamagedSegment("damaged_segment", "the segment does not end as one")
    return int(_LENGTH.unpack(trailer[-TRAILER : -len(MAGIC)])[0])


def read_index(packed: bytes) -> list[Block]:
    """The blocks of a segment, in order, from its index.

    Raises:
        DamagedSegment: a bit has changed.
    """
    return [
        Block((e, s), (last_e, last_s), start, length, marks)
        for e, s, last_e, last_s, start, length, marks in orjson.loads(_unzipped(packed))
    ]


def _unzipped(packed: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError as error:
        raise DamagedSegment("damaged_segment", f"a block cannot be read: {error}") from error


def _pack_marks(marks: Collection[int]) -> str:
    return b64encode(b"".join([_LENGTH.pack(m) for m in sorted(marks)])).decode()


def _unpack_marks(text: str) -> frozenset[int]:
    return frozenset(int(m) for (m,) in _LENGTH.iter_unpack(b64decode(text)))
