"""Snapshots as they are stored: a track as plain lists, with the position they include, compressed."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
import zstandard

from actors.stores import Position
from engine import errors
from engine.track import Track

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class DamagedSnapshot(errors.KairosError):
    """The stored form of one track cannot be read."""


class _Packers(threading.local):
    """A thread's own: they are not to be shared, and a new one costs three times what it compresses (measured)."""

    def __init__(self) -> None:
        # A kilobyte or two of JSON: a third of deflate's time for the same size (measured).
        self.compressor = zstandard.ZstdCompressor(level=1)
        self.decompressor = zstandard.ZstdDecompressor()


_PACKERS: Final = _Packers()


def packed(tracks: Mapping[str, Track | None], position: Position) -> tuple[dict[str, bytes], list[str]]:
    """Snapshots of tracks that include everything up to a position, and the names of those with nothing left."""
    saved = {name: pack([*position, track.snapshot()]) for name, track in tracks.items() if track is not None}
    return saved, [name for name, track in tracks.items() if track is None]


def restored(snapshot: bytes) -> tuple[Track, Position]:
    """The track of a snapshot, and the position that it includes.

    Raises:
        DamagedSnapshot: it cannot be read.
    """
    try:
        epoch, seq, state = unpack(snapshot)
        return Track.restore(state), (int(epoch), int(seq))
    except Exception as failure:
        # Whatever is wrong with the bytes shows in whatever reads them.
        raise DamagedSnapshot("damaged_snapshot", f"{len(snapshot)} bytes: {failure!r}") from failure


def pack(state: list[Any]) -> bytes:
    """A snapshot as it is stored."""
    return _PACKERS.compressor.compress(orjson.dumps(state))


def unpack(stored: bytes) -> list[Any]:
    """Read `pack` back; earlier versions had written with deflate."""
    raw = _PACKERS.decompressor.decompress(stored) if stored.startswith(ZSTD_MAGIC) else zlib.decompress(stored)
    state: list[Any] = orjson.loads(raw)
    return state
