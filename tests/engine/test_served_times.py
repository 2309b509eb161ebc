"""Of an offer that was served often, the times that a cap needs are read and recorded, and the count of all."""

from __future__ import annotations

import copy
from array import array
from random import Random

import orjson
import pytest

from engine.book import compile_book, load_book
from engine.decide import decide
from engine.features import PROFILE_FEATURES
from engine.inputs import Inputs, Request, read_inputs
from engine.offer_times import MAX_TIMES
from engine.prior import PriorModel
from engine.terms import FEWEST_TIMES
from engine.track import Track
from engine.world import World
from tests.engine.test_decide import BOOK, T0

N = 20


def busy() -> Track:
    """A visitor who was served one offer once a minute, and another twice."""
    track = Track.fresh("anon:a")
    track.served = {
        "main.apple": array("q", range(T0 - N * 60_000, T0, 60_000)),
        "main.pear": array("q", [T0 - 9_000, T0 - 8_000]),
    }
    return track


def book_with(cap: int, per: str = "1h") -> World:
    data = copy.deepcopy(BOOK)
    data["campaigns"]["main"]["offers"]["apple"]["caps"] = {"per_profile": {"max": cap, "per": per}}
    return World(compile_book(load_book(data), "b1"), PriorModel())


def test_the_newest_times_and_the_count_of_all_are_recorded() -> None:
    read = read_inputs(busy(), Request("page"), {}, {}, T0, n_times=FEWEST_TIMES)
    again = Inputs.from_list(orjson.loads(orjson.dumps(read.to_list())))
    for one in (read, again):
        assert one.served["main.apple"] == list(range(T0 - FEWEST_TIMES * 60_000, T0, 60_000))
        assert [one.times_served(f"main.{name}") for name in ("apple", "pear", "plum")] == [N, 2, 0]
        assert one.features[PROFILE_FEATURES.index("n_offers_seen")] == N + 2
    assert again == read


def test_where_all_times_are_read_nothing_more_is_said() -> None:
    read = read_inputs(busy(), Request("page"), {}, {}, T0)
    assert read.n_served is None
    assert len(read.to_list()) == 17


@pytest.mark.parametrize(("cap", "refused"), [(12, True), (N, True), (N + 1, False), (1_000, False)])
def test_a_cap_reads_as_many_as_it_needs(cap: int, refused: bool) -> None:
    world = book_with(cap)
    assert world.book.needs.n_times == min(max(cap, FEWEST_TIMES), MAX_TIMES)
    read = read_inputs(busy(), Request("page"), {"os": "ios"}, {}, T0, n_times=world.book.needs.n_times)
    decision = decide(read, world, now_ms=T0, rng=Random(1))
    assert ("apple" in {v.offer for v in decision.verdicts if v.reason == "CAP"}) is refused


def test_a_cap_that_can_never_be_reached_is_worth_a_warning() -> None:
    data = copy.deepcopy(BOOK)
    offer = data["campaigns"]["main"]["offers"]["apple"]
    offer["caps"] = {"per_profile": {"max": MAX_TIMES, "per": "30d"}}
    assert not load_book(data).warnings
    offer["caps"]["per_profile"]["max"] = MAX_TIMES + 1
    (warning,) = load_book(data).warnings
    assert (warning.code, warning.path) == ("cap_too_large", "campaigns.main.offers.apple.caps.per_profile.max")
