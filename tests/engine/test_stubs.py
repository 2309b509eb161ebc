"""What a track remembers of its decisions, against a plain list of them; and the form of earlier snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from engine.ids import DecisionId
from engine.stubs import LIVE, MAX_STUBS, OVERTAKEN, Stubs
from engine.track import Track

ITEMS = st.lists(st.sampled_from(["four_off", "free_shipping", "réminder", ""]), max_size=3)
MAYBE_PAGE = st.none() | st.sampled_from(["page-1", "page-2", ""])
MAYBE_REQUEST = st.none() | st.sampled_from([1, 2, 2**64 - 1])


@dataclass
class Plain:
    """One decision, as whoever cares for no byte would remember it."""

    id: DecisionId
    t_ms: int
    shown: list[str]
    served: list[str]
    page: str | None
    request: int | None
    charges: list[Any]
    rewards: dict[str, float] = field(default_factory=dict)
    state: int = LIVE


def agree(stubs: Stubs, plain: list[Plain]) -> None:
    """Everything that can be asked is answered alike."""
    assert stubs.ids() == [str(one.id) for one in plain]
    for one in plain:
        stub = stubs.get(str(one.id))
        assert stub is not None
        assert (stub.t_ms, list(stub.shown), list(stub.served)) == (one.t_ms, one.shown, one.served)
        assert (stub.rewards, stub.state, stub.charges) == (one.rewards, one.state, one.charges)
    for page in ("page-1", "page-2", "", "never"):
        assert stubs.shown_on(page) == [item for one in plain if one.page == page for item in one.shown]
    for request in (1, 2, 2**64 - 1, 7):
        taken = [str(one.id) for one in plain if one.request == request]
        assert stubs.of_request(request) == (taken[-1] if taken else None)


@given(st.data())
def test_what_is_remembered_is_what_happened(data: st.DataObject) -> None:
    stubs, plain = Stubs(), list[Plain]()
    for n in range(data.draw(st.integers(0, 12))):
        step = data.draw(st.sampled_from(["add", "add", "reward", "overtake", "stored"]))
        if step == "add":
            place = DecisionId(*(data.draw(st.sampled_from([0, 1, 2**32 - 1])) for _ in range(2)), n, n % 3)
            charges = data.draw(st.sampled_from([[], [["budget", 1.5]]]))
            one = Plain(
                place, 1_000 * n, data.draw(ITEMS), data.draw(ITEMS), data.draw(MAYBE_PAGE),
                data.draw(MAYBE_REQUEST), charges,
            )  # fmt: skip
            plain.append(one)
            stubs.add(one.id, one.t_ms, one.shown, one.served, page_view=one.page, request=one.request, charges=charges)
        elif step == "stored":
            kept, asked = orjson.loads(orjson.dumps([stubs.to_list(), stubs.requests()]))
            stubs = Stubs.from_list(kept, asked)
        elif plain:
            one = data.draw(st.sampled_from(plain))
            if step == "reward":
                one.rewards["conversion"] = 0.5 * n
                stubs.reward(str(one.id), "conversion", 0.5 * n)
            else:
                assert (stubs.overtake(str(one.id)) is None) == (one.state == OVERTAKEN)
                one.state, one.request = OVERTAKEN, None
    agree(stubs, plain)


def test_the_oldest_is_forgotten_with_all_that_is_known_of_it() -> None:
    stubs = Stubs()
    for n in range(MAX_STUBS + 2):
        stubs.add(DecisionId(3, 1, n, 0), n, ["a"], ["a"], page_view=f"page-{n}", request=n + 1, charges=[["b", n]])
    assert len(stubs) == MAX_STUBS
    assert stubs.ids()[0] == "d_3_1_2_0"
    assert (stubs.get("d_3_1_1_0"), stubs.of_request(2), stubs.shown_on("page-1")) == (None, None, [])
    stubs.reward("d_3_1_1_0", "conversion", 1.0)
    assert stubs.overtake("d_3_1_1_0") is None
    assert len(stubs.to_list()[4]) == MAX_STUBS


def test_a_view_of_several_tracks_remembers_what_each_of_them_does() -> None:
    one, other, joined = Stubs(), Stubs(), Stubs()
    one.add(DecisionId(1, 1, 1, 0), 1, ["a"], [], page_view="p")
    other.add(DecisionId(2, 1, 1, 0), 2, ["b"], [], page_view="p", request=9)
    other.reward("d_2_1_1_0", "engagement", 0.5)
    joined.extend(one)
    joined.extend(other)
    assert (joined.ids(), joined.shown_on("p"), joined.of_request(9)) == (
        ["d_1_1_1_0", "d_2_1_1_0"], ["a", "b"], "d_2_1_1_0",
    )  # fmt: skip
    found = joined.get("d_2_1_1_0")
    assert found is not None
    assert found.rewards == {"engagement": 0.5}
    assert len(one) == 1, "a view changes none of its tracks"


def test_snapshots_with_a_row_to_a_decision_are_read() -> None:
    state = Track.fresh("anon:a").snapshot()
    state[0] = 1
    state[30] = [
        ["d_3_1_7_0", 50, "spring", "home", ["a", "b"], "page-1", {"conversion": 1.0}, LIVE, ["a"]],
        ["d_3_1_8_1", 60, "spring", "home", ["c"], None, {}, OVERTAKEN, ["c"], [["b", 2.0]]],
    ]
    state[31] = [[77, "d_3_1_7_0"]]
    stubs = Track.restore(orjson.loads(orjson.dumps(state))).decisions
    first, second = stubs.get("d_3_1_7_0"), stubs.get("d_3_1_8_1")
    assert first is not None
    assert second is not None
    assert first == (50, ("a", "b"), ("a",), {"conversion": 1.0}, LIVE, [])
    assert second == (60, ("c",), ("c",), {}, OVERTAKEN, [["b", 2.0]])
    assert (stubs.of_request(77), stubs.shown_on("page-1")) == ("d_3_1_7_0", ["a", "b"])
    again = Track.restore(orjson.loads(orjson.dumps(Track.restore(state).snapshot())))
    assert again.decisions.to_list() == stubs.to_list()
