"""A dry run compares what `decide` answers by two books, and a book differs from itself in nothing."""

from __future__ import annotations

import copy
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import compile_book, load_book
from engine.decide import decide
from engine.dice import SeededDice
from engine.dry_run import NOTHING, DryRun, merged
from engine.inputs import Request, read_inputs
from engine.prior import PriorModel
from engine.record import ENGINE_VERSION, Record, Versions, decision_record
from engine.schema import PROFILE_FEATURES, schema_hash
from engine.signals import Signal
from engine.track import Track
from engine.world import World
from tests.engine.builders import HOUR, T0, histories
from tests.engine.test_decide import BOOK

NOW = T0 + 20 * HOUR
CONTEXT = {"device": "mobile", "os": "ios", "network": "4g", "bot": False}


def world(data: dict[str, Any] = BOOK, version: str = "b1") -> World:
    return World(compile_book(load_book(data), version), PriorModel())


def record(signals: list[Signal], n: int, by: World, **consent: bool) -> Record:
    """A decision of a visitor with this history, as it stands in the journal."""
    track = Track.fresh(f"anon:{n}")
    for signal in signals:
        track.observe(signal, signal.t_ms)
    inputs = read_inputs(track, Request("page", base=[{"id": "tier1"}], limit=2), dict(CONTEXT), consent, NOW + n)
    decision = decide(inputs, by, now_ms=NOW + n, rng=SeededDice(n))
    versions = Versions(ENGINE_VERSION, by.book.version, by.model_version, schema_hash())
    row = decision_record(NOW + n, n, "model", versions, None, inputs, decision)
    return list(orjson.loads(orjson.dumps(row)))


def dry(records: list[Record], current: World, proposed: World) -> dict[str, Any]:
    run = DryRun(current, proposed)
    for n, one in enumerate(records):
        run.add(f"d_0_1_{n}_0", one)
    return run.summary()


@settings(max_examples=30, deadline=None)
@given(st.lists(histories(max_size=8), min_size=1, max_size=5), st.booleans())
def test_a_book_differs_from_itself_in_nothing_whether_recorded_or_decided_again(
    found: list[list[Signal]], personal: bool
) -> None:
    records = [record(signals, n, world(), personalisation=personal) for n, signals in enumerate(found)]
    for current in (world(), world(version="b2")):
        summary = dry(records, current, world(version="proposed"))
        assert summary["decisions"] == len(records)
        assert summary["decidedAgain"] == (len(records) if current.book.version == "b2" else 0)
        assert (summary["changed"], summary["kinds"]) == (0, {})
        assert all(s["before"] == s["after"] for s in summary["offers"].values())


@settings(max_examples=30, deadline=None)
@given(st.lists(histories(max_size=8), min_size=1, max_size=5), st.floats(0.01, 0.99))
def test_the_decisions_that_change_are_those_that_decide_itself_answers_otherwise(
    found: list[list[Signal]], above: float
) -> None:
    data = copy.deepcopy(BOOK)
    data["campaigns"]["main"]["segments"]["deep"]["all"][0]["above"] = above
    here, there = world(), world(data, "proposed")
    records = [record(signals, n, here) for n, signals in enumerate(found)]
    summary = dry(records, here, there)
    for n, one in enumerate(records):
        depth = dict(zip(PROFILE_FEATURES, one[7][1], strict=True))["depth"]
        moved = (depth > 0.5) is not (depth > above)
        assert (f"d_0_1_{n}_0" in summary["changedIds"]) is moved
    counts = summary["segments"].get("main.deep", {"before": 0, "after": 0, "entered": 0, "left": 0})
    assert counts["after"] - counts["before"] == counts["entered"] - counts["left"]


def test_a_record_of_another_feature_schema_is_counted_and_left_out() -> None:
    one = record([], 1, world())
    one[5][3] = "older"
    summary = dry([one], world(), world(version="proposed"))
    assert (summary["unreadable"], summary["decisions"]) == (1, 0)


def test_other_content_of_the_same_offer_is_a_change_of_its_own() -> None:
    data = copy.deepcopy(BOOK)
    data["campaigns"]["main"]["offers"]["apple"]["content"]["text"] = "something else"
    records = [record([], n, world()) for n in range(20)]
    summary = dry(records, world(), world(data, "proposed"))
    assert set(summary["kinds"]) == {"content"}
    assert summary["changed"] == summary["offers"]["main.apple"]["before"] > 0


def test_summaries_of_parts_merge_to_the_summary_of_the_whole() -> None:
    data = copy.deepcopy(BOOK)
    data["campaigns"]["main"]["offers"]["apple"]["when"] = {"os": ["android"]}
    here, there = world(), world(data, "proposed")
    records = [record([], n, here) for n in range(12)]
    whole = dry(records, here, there)
    assert whole["changed"] > 0
    parts = [dry(records[:5], here, there), dry(records[5:], here, there), dict(NOTHING)]
    joined = merged(parts)
    same = set(NOTHING) - {"examples", "changedIds"}
    assert {name: joined[name] for name in same} == {name: whole[name] for name in same}
    assert len(joined["changedIds"]) == whole["changed"]
    assert [e["atMs"] for e in joined["examples"]] == sorted((e["atMs"] for e in whole["examples"]), reverse=True)
    assert merged([]) == NOTHING
