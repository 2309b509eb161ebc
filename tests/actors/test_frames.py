"""Frames: cut the same however the bytes arrive, and never longer than allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.frames import HEAD, FrameReader
from engine.errors import TooLarge


def frame(correlation: int, payload: bytes) -> bytes:
    return HEAD.pack(len(payload), correlation) + payload


@given(payloads=st.lists(st.binary(max_size=40)), cuts=st.lists(st.integers(1, 17), min_size=1))
def test_frames_are_the_same_however_the_bytes_are_cut(payloads: list[bytes], cuts: list[int]) -> None:
    frames = list(enumerate(payloads))
    wire = b"".join(frame(correlation, payload) for correlation, payload in frames)
    reader, seen, at, i = FrameReader(40), [], 0, 0
    while at < len(wire):
        step = cuts[i % len(cuts)]
        seen += reader.feed(wire[at : at + step])
        at, i = at + step, i + 1
    assert seen == frames


def test_a_frame_beyond_the_limit_is_refused_by_its_head_alone() -> None:
    reader = FrameReader(10)
    assert reader.feed(frame(1, b"x" * 10)) == [(1, b"x" * 10)]
    with pytest.raises(TooLarge, match="11 bytes"):
        reader.feed(HEAD.pack(11, 2))
