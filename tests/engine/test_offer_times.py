"""What is remembered of offers seen and redeemed does not depend on the order, and crowds nothing out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.offer_times import MAX_OF_ALL, MAX_TIMES, OfferTime, counted_once, with_one

ROWS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 1), st.sampled_from("ab"), st.sampled_from(["", "d1", "d2"])).map(
        list
    ),
    max_size=20,
)


@given(ROWS, st.data())
def test_the_order_of_coming_does_not_matter(rows: list[OfferTime], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    shuffled = data.draw(st.permutations(rows))
    one_by_one: list[OfferTime] = []
    for row in shuffled:
        one_by_one = with_one(one_by_one, row)
    assert counted_once(rows) == one_by_one == counted_once([*counted_once(rows[:cut]), *counted_once(rows[cut:])])


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abc")), max_size=300), st.data())
def test_nor_does_it_where_much_is_forgotten(kinds: list[tuple[int, str]], data: st.DataObject) -> None:
    rows: list[OfferTime] = [[t, kind, offer, f"d{t}"] for t, (kind, offer) in enumerate(kinds)]
    some = data.draw(st.sets(st.sampled_from(rows_ids)) if (rows_ids := list(range(len(rows)))) else st.just(set()))
    first, second = [r for r in rows if r[0] in some], [r for r in rows if r[0] not in some]
    kept = counted_once(rows)
    assert kept == counted_once([*counted_once(second), *first])
    grown: list[OfferTime] = []
    for row in rows:
        grown = with_one(grown, row)
    assert grown == kept
    for kind in (0, 1):
        for offer in "abc":
            of_offer = [r for r in rows if r[1:3] == [kind, offer]]
            assert [r for r in kept if r[1:3] == [kind, offer]] == of_offer[-MAX_TIMES:]


def test_a_redemption_is_not_forgotten_for_all_that_is_seen_afterwards() -> None:
    times: list[OfferTime] = [[1, 1, "gift", "d_1"]]
    for t in range(2, 2_000):
        times = with_one(times, [t, 0, f"offer-{t % 40}", f"d_{t}"])
    assert times[0] == [1, 1, "gift", "d_1"]
    assert len(times) == 1 + MAX_OF_ALL
