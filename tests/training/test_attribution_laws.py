"""Laws of attribution: the order of partitions, a kill and what was told before change nothing of what it comes to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.builders import MINUTE
from tests.training.journals import A, B, Entry, N, Reader, U, learned, written
from training.saved_state import from_bytes, to_bytes

TRACKS = [A, B, "anon:c"]
USERS = [U, "user:v"]
who = st.sampled_from(TRACKS + USERS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("decide"), who, st.sampled_from(["page", "banner"])),
        st.tuples(st.just("visit"), who, st.none()),
        st.tuples(st.just("order"), who, st.sampled_from(["o1", "o2", "o3"])),
        st.tuples(st.just("late"), who, st.sampled_from(["o4", "o5"])),
        st.tuples(st.sampled_from(["order_refunded", "order_cancelled"]), who, st.sampled_from(["o1", "o2", "o4"])),
        st.tuples(st.sampled_from(["offer_viewed", "offer_clicked"]), who, st.booleans()),
        st.tuples(st.sampled_from(["reward", "supersede", "refuse", "bot"]), who, st.sampled_from(["conversion", "x"])),
        st.tuples(st.just("link"), st.sampled_from(TRACKS), st.sampled_from(USERS)),
        st.tuples(st.sampled_from(["unlink", "erase"]), st.sampled_from(TRACKS), st.none()),
        st.tuples(st.just("wait"), st.sampled_from([1, 90_000, 240_000, 600_000]), st.none()),
    ),
    min_size=4,
    max_size=24,
)


def interleaved(entries: list[Entry], choose: st.DataObject) -> Iterator[Entry]:
    """Another order over the partitions; each one's own stays."""
    waiting = {p: [e for e in entries if e[0] == p] for p in range(N)}
    while any(waiting.values()):
        partition = choose.draw(st.sampled_from([p for p, left in waiting.items() if left]))
        yield waiting[partition].pop(0)


def as_journalled(entries: list[Entry]) -> list[Entry]:
    return [(p, at, orjson.loads(orjson.dumps(records))) for p, at, records in entries]


@given(steps, st.data())
@settings(max_examples=120, deadline=None)
def test_whatever_order_the_partitions_are_read_in_the_matured_window_is_the_same(script: Any, choose: Any) -> None:
    shop = written(script)
    entries, until_ms = as_journalled(shop.entries), shop.now_ms + 60 * MINUTE
    one = Reader().read(entries).advance(until_ms)
    other = Reader()
    for partition, position, records in interleaved(entries, choose):
        other.attribution.observe(partition, position, records)
        if choose.draw(st.booleans()):
            # What is told by the clock of a partition holds whenever it is told.
            rest = [r[2] for p, at, rs in entries if p == partition and at > position for r in rs if r is not None]
            other.attribution.advance(partition, min(rest, default=until_ms))
        if choose.draw(st.booleans()):
            other.keep()
    other.advance(until_ms)
    assert other.matured() == one.matured()
    assert len(other.window) == len(other.matured())


@given(steps, st.data())
@settings(max_examples=80, deadline=None)
def test_killed_anywhere_and_resumed_it_comes_to_the_same(script: Any, choose: Any) -> None:
    shop = written(script)
    entries, until_ms = as_journalled(shop.entries), shop.now_ms + 60 * MINUTE
    whole = Reader().read(entries).advance(until_ms)
    cut = choose.draw(st.integers(0, len(entries)))
    before = Reader().read(entries[:cut])
    if choose.draw(st.booleans()) and cut < len(entries):
        before.advance(entries[cut][2][0][2])
    after = Reader()
    found = from_bytes(to_bytes(before.attribution, before.window, {"cut": cut}), after.attribution, 10_000)
    assert found is not None
    after.window, extra = found
    after.read(entries[extra["cut"] :]).advance(until_ms)
    assert after.matured() == whole.matured()


@given(steps)
@settings(max_examples=60, deadline=None)
def test_what_is_told_never_goes_back_and_ends_as_the_window_stands(script: Any) -> None:
    reader = learned(written(script))
    seen: dict[str, Any] = {}
    for example in reader.told:
        earlier = seen.get(example.key)
        assert earlier is None or (example.revision > earlier.revision and not earlier.withdrawn)
        assert earlier is None or not earlier.matured or example.matured or example.withdrawn
        seen[example.key] = example
    assert {k: e for k, e in seen.items() if not e.withdrawn} == {k: reader[k] for k in reader.window}
