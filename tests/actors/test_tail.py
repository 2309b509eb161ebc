"""The tail of a partition: a track's records come in order and once, however much of it has been taken apart before."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from hypothesis import given
from hypothesis import strategies as st

from actors.tail import Placed, Tail
from engine.ids import DecisionId
from engine.record import ERASED, FORGOTTEN, FORMAT, LINK_DONE, LINK_INTENT, REWARD, SIGNALS, Record

TRACKS = ["anon:a", "anon:ab", 'user:"quoted" \\ one', "user:ü", "device:\n"]
KINDS = st.sampled_from([SIGNALS, REWARD, ERASED, LINK_INTENT, LINK_DONE, FORGOTTEN])
# What a record says of another track, or a visitor says of themselves, is no record of that track.
RECORDS = st.tuples(KINDS, st.sampled_from(TRACKS), st.integers(0, 99), st.sampled_from([*TRACKS, '["e",']))
ENTRIES = st.lists(st.lists(RECORDS.map(list) | st.none(), max_size=4), max_size=6)
ACTS = st.lists(st.integers(0, 3) | st.sampled_from(TRACKS), max_size=8)


def plainly(entries: list[list[Record | None]], wanted: Callable[[Record], bool]) -> list[Placed]:
    return [
        (DecisionId(5, 1, seq, index), record)
        for seq, records in enumerate(entries)
        for index, record in enumerate(records)
        if record is not None and record[0] != FORGOTTEN and wanted(record)
    ]


def filled(entries: list[list[Record | None]]) -> tuple[Tail, list[Placed]]:
    tail, told = Tail(5), []
    for seq, records in enumerate(entries):
        told += tail.add((1, seq), orjson.dumps([FORMAT, *records]))
    return tail, told


@given(ENTRIES, ACTS)
def test_each_track_is_given_its_records_in_order_and_once(
    entries: list[list[Record | None]], acts: list[int | str]
) -> None:
    tail, _ = filled(entries)
    taken: set[str] = set()
    for act in [*acts, 99, *TRACKS]:
        if isinstance(act, int):
            tail.sort(act)
            continue
        expected = [] if act in taken else plainly(entries, lambda record, name=act: record[1] == name)  # type: ignore[misc]
        assert tail.take(act) == expected
        taken.add(act)
    assert not tail
    assert not tail.tracks


@given(ENTRIES)
def test_links_and_erasures_are_told_at_once(entries: list[list[Record | None]]) -> None:
    _, told = filled(entries)
    unfinished = (ERASED, LINK_INTENT, LINK_DONE)
    assert [one for one in told if one[1][0] in unfinished] == plainly(entries, lambda record: record[0] in unfinished)


@given(ENTRIES)
def test_what_is_sorted_names_its_tracks(entries: list[list[Record | None]]) -> None:
    tail, _ = filled(entries)
    tail.sort(len(entries))
    assert tail.n_unsorted == 0
    assert set(tail.tracks) == {record[1] for _, record in plainly(entries, lambda _: True)}
    tail.clear()
    assert (bool(tail), tail.n_bytes) == (False, 0)
