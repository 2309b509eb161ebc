"""The head of an entry's one record, read off its bytes: never another than what taking it apart gives."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from engine import record
from engine.record import FORMAT, Head, only_head

KINDS = [
    record.SIGNALS, record.SEGMENTS, record.DECISION, record.REWARD, record.SUPERSEDED, record.LINK_INTENT,
    record.ADOPTED, record.MEMBER, record.LINK_DONE, record.ERASED, record.CLAIM, record.VISIT, record.FORGOTTEN,
]  # fmt: skip
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from([*KINDS, '"', "\\", '],["d","', "anon:ä", "[1,[", "null"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**15), 10**15), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=12,
)
RECORDS = st.builds(
    lambda kind, track, ms, rest: [kind, track, ms, *rest],
    st.sampled_from(KINDS), TEXTS, st.integers(0, 2**45), st.lists(VALUES, max_size=4),
)  # fmt: skip


@given(st.lists(st.one_of(st.none(), RECORDS), max_size=3))
@example([["d", "anon:a", 1, ["d", "x"]], None, ["s", "anon:b", 2]])
@example([None, ["d", "anon:a", 1]])
def test_a_head_is_that_of_the_only_record(records: list[Any]) -> None:
    head = only_head(orjson.dumps([FORMAT, *records]))
    if head is not None:
        assert [list(head)] == [one[:3] for one in records if one is not None]


@given(
    st.sampled_from(KINDS),
    st.text(st.characters(codec="utf-8", exclude_characters='"\\', min_codepoint=32)),
    st.integers(0),
)
def test_a_plain_record_alone_is_read_off(kind: str, track: str, ms: int) -> None:
    if ms < 2**63:
        assert only_head(orjson.dumps([FORMAT, [kind, track, ms, {"a": [1, "b"]}]])) == Head(kind, track, ms)
