"""The window: the highest revision stands, the oldest go first, what is forgotten is gone from the bytes too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example as example_of
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInput
from engine.schema import N_FEATURES
from tests.training.journals import N, Reader, Scribe, books, learned, mark
from training import window as window_file
from training.attribution import Attribution
from training.example import Amendment, Example
from training.saved_state import from_bytes, to_bytes
from training.window import Window


def example(key: str = "d_0_1_1_0", revision: int = 1, **more: Any) -> Example:
    row = np.full(N_FEATURES, np.nan)
    row[0] = more.pop("first", 0.5)
    told: dict[str, Any] = {
        "track": "anon:a", "t_ms": 1000, "campaign": "main", "offer": None, "propensity": 0.5, "label": 0,
        "value": 0.0, "engaged": False, "model": "m1", "arm": "champion", "trial": None, "matured": True,
        "degraded": False, "took_us": 9, "book": "b1",
    }  # fmt: skip
    return Example(key=key, revision=revision, row=row, **{**told, **more})


def test_what_is_put_in_comes_out_again() -> None:
    window = Window()
    trial = ("r1", "canary-0.05", "challenger", 0.1, None)
    given_example = example(offer="gift", trial=trial, value=4.25, engaged=True, holdout=True, degraded=True)
    window.upsert([given_example])
    assert window.get(given_example.key) == given_example
    assert window.get("d_9_9_9_9") is None


def test_a_higher_revision_replaces_and_a_lower_one_changes_nothing() -> None:
    window = Window()
    window.upsert([example(revision=2, label=1), example(revision=1), example(revision=2, label=0)])
    found = window.get("d_0_1_1_0")
    assert found is not None
    assert (len(window), found.revision, found.label) == (1, 2, 1)
    window.upsert([example(revision=3, withdrawn=True)])
    assert (len(window), window.n_matured) == (0, 0)


def test_the_oldest_go_first_and_are_named() -> None:
    window = Window(capacity=40)
    gone = [key for i in range(100) for key in window.upsert([example(f"k{i}", t_ms=1000 + (i * 37) % 100)])]
    assert len(window) <= 40
    kept = {found.t_ms for key in window if (found := window.get(key))}
    assert min(kept) > 1000
    assert set(gone).isdisjoint(window)
    assert len(gone) + len(window) == 100


def test_only_what_has_matured_is_learned_from_in_the_order_of_time() -> None:
    window = Window()
    window.upsert(
        example(f"k{i}", t_ms=1000 - i, track=f"anon:{i % 2}", matured=i % 3 > 0, first=float(i), label=i % 2)
        for i in range(9)
    )
    rows = window.matured()
    assert rows.t_ms.tolist() == sorted(rows.t_ms.tolist())
    assert rows.x[:, 0].tolist() == [8.0, 7.0, 5.0, 4.0, 2.0, 1.0]
    assert rows.y.tolist() == [0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    assert (rows.track[0] == rows.track[3], rows.track[0] == rows.track[1]) == (True, False)
    assert window.matured(after_ms=995, until_ms=998).x[:, 0].tolist() == [4.0, 2.0]
    assert window.n_matured == 6


def test_a_forgotten_track_is_gone_also_from_the_bytes() -> None:
    window = Window()
    window.upsert(example(f"k{i}", track=f"anon:{i % 3}") for i in range(9))
    assert window.forget(lambda track: track == "anon:1") == 3
    assert len(window) == 6
    held = window._texts
    assert "anon:1" not in held
    window.upsert(
        [example("k0", 2, withdrawn=True), example("k3", 2, withdrawn=True), example("k6", 2, withdrawn=True)]
    )
    window.to_bytes()
    assert "anon:0" not in window._texts


changes = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 5), st.integers(0, 50), st.booleans(), st.integers(0, 9)), max_size=40
)


@given(changes, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_upserts_commute_and_a_saved_window_is_the_same_window(rows: Any, dice: Any) -> None:
    told = {(k, r): example(f"k{k}", r, t_ms=t, matured=m, label=r % 2, track=f"anon:{k}") for k, r, t, m, _ in rows}
    one, other = Window(), Window()
    one.upsert(told.values())
    shuffled = list(told.values())
    dice.shuffle(shuffled)
    for found in shuffled:
        other.upsert([found])
        if dice.random() < 0.1:
            other = Window.from_bytes(other.to_bytes()) or other
    assert {k: one.get(k) for k in one} == {k: other.get(k) for k in other}
    assert one.matured().x.tobytes() == other.matured().x.tobytes()


def test_a_window_of_another_feature_schema_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window()
    window.upsert([example()])
    blob = window.to_bytes()
    assert Window.from_bytes(blob) is not None
    monkeypatch.setattr(window_file, "schema_hash", lambda: "another")
    assert Window.from_bytes(blob) is None


def test_a_saved_state_that_was_damaged_is_refused() -> None:
    reader = learned(Scribe())
    blob = bytearray(to_bytes(reader.attribution, reader.window, {"offsets": [1]}))
    assert from_bytes(bytes(blob), fresh(), 10) is not None
    blob[len(blob) // 2] ^= 1
    with pytest.raises(InvalidInput, match="not as it was written"):
        from_bytes(bytes(blob), fresh(), 10)


def test_what_the_window_evicts_is_let_go_of_altogether() -> None:
    shop = Scribe()
    for i in range(60):
        shop.wait(1000)
        shop.decide(f"anon:{i}")
        shop.order(f"anon:{i}", f"o{i}")
    reader = Reader(capacity=20).read(shop.entries)
    assert len(reader.window) <= 20
    assert set(reader.attribution.cases) == set(reader.window)
    shop.send("anon:0", "order_refunded", order_id="o0")
    reader.read(shop.entries[-1:]).advance(shop.now_ms + 24 * 3600 * 1000)
    assert {name for name, order in reader.attribution.orders.items() if order.credited} <= {
        f"o{i}" for i in range(40, 60)
    }


def fresh() -> Attribution:
    return Attribution(N, books, mark)


@given(changes, st.integers(1, 12))
@example_of([(0, 1, 0, False, 7), (0, 2, 0, False, 0)], 1)
@settings(max_examples=60, deadline=None)
def test_many_at_once_come_to_what_one_after_another_comes_to(rows: Any, n: int) -> None:
    told = {
        (k, r): example(f"k{k}", r, t_ms=t, matured=m, value=float(v), track=f"anon:{k}", withdrawn=r == 5,
                        trial=("r1", "shadow", "champion", 0.1, None) if v > 6 else None)
        for k, r, t, m, v in rows
    }  # fmt: skip
    # A withdrawn one is the last that is told of its key.
    stream = sorted(told.values(), key=lambda one: one.withdrawn)
    one, many = Window(), Window()
    for found in stream:
        one.upsert([found])
    for start in range(0, len(stream), n):
        many.upsert(stream[start : start + n])
    assert {k: one.get(k) for k in one} == {k: many.get(k) for k in many}
    assert one.n_matured == many.n_matured == len(many.matured().key)
    assert one.matured().x.tobytes() == many.matured().x.tobytes()


@given(changes, changes)
@settings(max_examples=60, deadline=None)
def test_an_amendment_does_what_the_whole_example_would(rows: Any, more: Any) -> None:
    whole, amended = Window(), Window()
    first = {f"k{k}": example(f"k{k}", r, t_ms=t, matured=m) for k, r, t, m, _ in rows}
    whole.upsert(first.values())
    amended.upsert(first.values())
    some = {f"k{k}": Amendment(f"k{k}", r, r % 2, float(v), m, not m, withdrawn=v > 7) for k, r, _, m, v in more}
    expected = {
        key: one._replace(**some[key]._asdict())
        for key, one in first.items()
        if key in some and some[key].revision > one.revision
    }
    whole.upsert(expected.values())
    assert {one.key: one for one in amended.amend(some.values())} == expected
    assert {k: whole.get(k) for k in whole} == {k: amended.get(k) for k in amended}
    assert (whole.n_matured, len(whole)) == (amended.n_matured, len(amended))


def test_the_place_of_one_that_went_is_taken_and_nothing_of_it_stays() -> None:
    window = Window()
    window.upsert([example("k0", track="anon:gone", trial=("r1", "shadow", "champion", 0.1, None)), example("k1")])
    window.amend([Amendment("k0", 2, 0, 0.0, False, False, withdrawn=True)])
    later = example("k2", matured=False)
    window.upsert([later])
    assert window.get("k2") == later
    assert (window.matured().key, window.n_matured) == (["k1"], 1)
    again = Window.from_bytes(window.to_bytes())
    assert again is not None
    assert (set(again), "anon:gone" in again._texts) == ({"k1", "k2"}, False)


def test_of_those_of_one_time_the_first_by_name_go_first() -> None:
    window = Window(capacity=10)
    gone = window.upsert([example(f"k{i}", t_ms=7) for i in (3, 9, 1, 0, 8, 2, 7, 4, 6, 5, 10)])
    assert gone == ["k0"]
    assert window.matured().key == ["k1", "k10", *(f"k{i}" for i in range(2, 10))]
