"""Blobs of text as they are kept in the store: compressed by zstd."""

from __future__ import annotations

import zstandard


def zip_(raw: bytes) -> bytes:
    """Compress; the size is in the frame."""
    return zstandard.ZstdCompressor(level=6).compress(raw)


def unzip(blob: bytes) -> bytes:
    """Read `zip_` back."""
    return zstandard.ZstdDecompressor().decompress(blob)
