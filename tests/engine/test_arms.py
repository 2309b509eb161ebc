"""Arms of a rollout: sticky, monotone in the share, not for everybody, and both models on the row served."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import compile_book, load_book
from engine.decide import decide
from engine.decision import Decision
from engine.explain import explain
from engine.inputs import Inputs, Request, read_inputs
from engine.prior import PriorModel
from engine.record import decision_record, versions_used
from engine.schema import MODEL_FEATURES, N_FEATURES, schema_hash
from engine.supply import Forced, Supply
from engine.track import Track
from engine.world import CANARY, CHALLENGER, CHAMPION, SHADOW, Trial, World
from tests.engine.builders import T0, histories

BOOK: dict[str, Any] = {
    "timezone": "UTC",
    "currency": "EUR",
    "geofences": {"store": {"lat": 52.52, "lon": 13.405, "radius_km": 5}},
    "campaigns": {
        "main": {
            "priority": 5,
            "placements": ["page"],
            "conversion": {"event": "Order Completed", "within": "5m", "value": "revenue"},
            "offers": {
                "apple": {"when": {"os": ["ios"]}, "content": {"text": "a"}, "value": 30, "cost": 2},
                "pear": {"content": {"text": "p"}, "value": 20},
            },
            "policy": {"kind": "thompson"},
            "tier1": {"mode": "enhance"},
        }
    },
}  # fmt: skip
OFFER = MODEL_FEATURES.index("offer_code")


class Seeing:
    """A model that remembers the rows it was asked about, and says one number; None: it fails."""

    kind = "lightgbm"

    def __init__(self, version: str, p: float | None = 0.2) -> None:
        self.version, self.p = version, p
        self.schema_hash = schema_hash()
        self.rows: list[Any] = []

    def predict_one(self, row: Any) -> float:
        self.rows.append(np.array(row))
        if self.p is None:
            raise RuntimeError("broken")
        return self.p + (0.1 if row[OFFER] else 0.0)

    def predict_many(self, rows: Any) -> Any:
        return np.array([self.predict_one(row) for row in rows])


def book(version: str = "b1", **campaign: Any) -> Any:
    data = copy.deepcopy(BOOK)
    data["campaigns"]["main"].update(campaign)
    return compile_book(load_book(data), version)


def world(challenger: Any, *, stage: str = CANARY, share: float = 0.5, model: Any = None, at: Any = None) -> World:
    kind = "model" if hasattr(challenger, "predict_one") else "book"
    return World(at or book(), model or Seeing("m1"), rollout=Trial("r1", kind, stage, share, challenger))


def inputs(root: str = "anon:a", signals: Any = (), **more: Any) -> Inputs:
    track = Track.fresh(root)
    for s in signals:
        track.observe(s, T0)
    consent = more.pop("consent", {"personalisation": True, "training": True})
    context = {"os": "ios", "device": "mobile", "lat": 52.5, "lon": 13.4, **more.pop("context", {})}
    return read_inputs(track, Request("page", limit=more.pop("limit", 1)), context, consent, T0)


def run(read: Inputs, within: World, seed: int = 1, **more: Any) -> Decision:
    return decide(read, within, now_ms=T0, rng=Random(seed), **more)


def in_arm(within: World, arm: str) -> Inputs:
    """The first visitor that is in this arm."""
    return next(read for i in range(1000) if run(read := inputs(f"anon:{i}"), within).arm == arm)


def test_a_visitor_moves_to_the_challenger_as_the_share_grows_and_never_back() -> None:
    m2 = Seeing("m2")
    ramp = [world(m2, share=share) for share in (0.01, 0.05, 0.25, 0.5)]
    for i in range(60):
        arms = [run(inputs(f"anon:{i}"), one).arm for one in ramp]
        assert arms == sorted(arms, reverse=True)  # champion, … , challenger
    shares = [run(inputs(f"anon:{i}"), ramp[-1]).arm for i in range(400)]
    assert shares.count(CHALLENGER) / 400 == pytest.approx(0.5, abs=0.1)


def test_a_bucket_once_assigned_stays_whatever_the_identity_becomes() -> None:
    within = world(Seeing("m2"), share=0.5)
    mine = in_arm(within, CHALLENGER)
    assigned = run(mine, within).assignments["rollout.r1"]
    other = in_arm(within, CHAMPION)
    other.assignments["rollout.r1"] = assigned
    decision = run(other, within)
    assert decision.arm == CHALLENGER
    assert decision.assignments == {}


def test_the_arm_answers_and_is_named_in_the_response() -> None:
    within = world(Seeing("m2", 0.4), share=0.5, model=Seeing("m1", 0.2))
    for arm, version, p in ((CHAMPION, "m1", 0.2), (CHALLENGER, "m2", 0.4)):
        decision = run(in_arm(within, arm), within)
        body = decision.response("anon:a", "page", "d_0_1_1_0")
        assert body["model"] == {"version": version, "arm": arm}
        assert decision.conversion == p


@pytest.mark.parametrize(
    "why", ["bot", "no personalisation", "no training", "no analytics", "unrecorded", "preview", "degraded"]
)
def test_who_must_not_be_tried_upon_gets_the_champion_and_no_trial(why: str) -> None:
    within = world(Seeing("m2"), share=1.0)
    assert run(inputs(), within).arm == CHALLENGER
    consent = {"no personalisation": "personalisation", "no training": "training", "no analytics": "analytics"}
    read = inputs(consent={consent[why]: False} if why in consent else {}, context={"bot": why == "bot"})
    read.recordable = why != "unrecorded"
    read.supply = Supply(forced=Forced("preview")) if why == "preview" else None
    decision = run(read, within, rung="tier1" if why == "degraded" else "model")
    assert (decision.arm, decision.trial, decision.model) == (CHAMPION, None, "m1")
    assert "rollout.r1" not in decision.assignments


def test_the_holdout_is_tried_upon_by_neither_arm() -> None:
    everyone = book(holdout={"share": 0.5})
    within = world(Seeing("m2"), share=1.0, at=everyone)
    held = [run(inputs(f"anon:{i}"), within) for i in range(40)]
    assert {(d.holdout, d.arm, d.trial is None) for d in held} == {(True, CHAMPION, True), (False, CHALLENGER, False)}


def test_in_shadow_the_challenger_is_asked_and_changes_nothing() -> None:
    quiet, shadow = World(book(), Seeing("m1")), world(Seeing("m2", 0.9), stage=SHADOW, share=0.0)
    for i in range(20):
        read = inputs(f"anon:{i}", limit=2)
        with_trial, without = run(read, shadow), run(read, quiet)
        assert with_trial.trial is not None
        assert with_trial.trial[:3] == ["r1", "shadow", CHAMPION]
        with_trial.trial = None
        assert with_trial.to_list() == without.to_list()


@given(histories(max_size=10), st.integers(0, 50), st.sampled_from(["ios", "android"]))
@settings(max_examples=40, deadline=None)
def test_both_models_are_asked_about_the_very_row_that_was_served(signals: Any, seed: int, os: str) -> None:
    champion, challenger = Seeing("m1", 0.2), Seeing("m2", 0.3)
    within = world(challenger, share=0.5, model=champion)
    read = inputs(f"anon:{seed}", signals, context={"os": os})
    decision = run(read, within, seed)
    assert decision.trial is not None
    own, other = (champion, challenger) if decision.arm == CHAMPION else (challenger, champion)
    (row,) = other.rows
    assert row.shape == (N_FEATURES,)
    assert any(row.tobytes() == seen.tobytes() for seen in own.rows)
    assert bool(row[OFFER]) is bool(decision.served)
    p = 0.1 if decision.served else 0.0
    assert decision.trial[3:] == [0.2 + p, 0.3 + p]


@pytest.mark.parametrize("broken", [None, float("nan"), 1.5, -0.3])
def test_a_challenger_that_gives_no_probability_is_told_as_none_and_does_no_harm(broken: float | None) -> None:
    shadow = run(inputs(), world(Seeing("m2", broken), stage=SHADOW))
    assert shadow.trial is not None
    assert shadow.trial[3:] == [pytest.approx(0.3), None]
    canary = run(inputs(), world(Seeing("m2", broken), share=1.0))
    assert canary.trial is not None
    assert (canary.rung, canary.trial[4]) == ("rules", None)
    assert canary.items


def test_a_candidate_book_decides_for_its_arm_and_is_named() -> None:
    other = book("b2", offers={"plum": {"content": {"text": "new"}, "value": 50}})
    within = world(other, share=0.5)
    for arm, version, shown in ((CHAMPION, "b1", {"apple", "pear"}), (CHALLENGER, "b2", {"plum"})):
        read = in_arm(within, arm)
        decisions = [run(read, within, seed) for seed in range(20)]
        assert {i.id for d in decisions for i in d.items} <= shown
        assert versions_used(within, decisions[0], "s").book == version
        assert all(d.trial is not None and d.trial[3] == d.trial[4] for d in decisions)


@pytest.mark.parametrize("kind", ["model", "book"])
@pytest.mark.parametrize("arm", [CHAMPION, CHALLENGER])
def test_a_record_names_what_was_used_and_explains_itself(kind: str, arm: str) -> None:
    challenger: Any = Seeing("m2") if kind == "model" else book("b2")
    within = world(challenger)
    read = in_arm(within, arm)
    decision = run(read, within)
    record = decision_record(T0, 1, "model", versions_used(within, decision, "s"), None, read, decision, 77)
    used = "m2" if (kind, arm) == ("model", CHALLENGER) else "m1"
    by = "b2" if (kind, arm) == ("book", CHALLENGER) else "b1"
    other = {"model": {"m1": "m2", "m2": "m1"}[used], "book": {"b1": "b2", "b2": "b1"}[by]}[kind]
    assert record[5][1:3] == [by, used]
    assert record[5][5] == ["r1", kind, CANARY, 0.5, other]
    assert record[9] == 77
    told = explain(read, within, decision, T0)
    assert told["arm"] == arm
    assert decision.trial is not None
    assert told["trial"] == {
        "rollout": "r1", "stage": "canary-0.5", "arm": arm,
        "pChampion": decision.trial[3], "pChallenger": decision.trial[4],
    }  # fmt: skip
    again = Decision.from_list(orjson.loads(orjson.dumps(decision.to_list())))
    assert again.trial == decision.trial


def test_the_churn_model_in_force_answers_and_the_prior_steps_in_for_one_that_fails() -> None:
    said = run(inputs(), World(book(), Seeing("m1"), churn=Seeing("c1", 0.77)))
    failed = run(inputs(), World(book(), Seeing("m1"), churn=Seeing("c1", None)))
    prior = run(inputs(), World(book(), Seeing("m1")))
    assert said.churn == 0.77
    assert failed.churn == prior.churn
    assert World(book(), PriorModel(), churn=Seeing("c1")).churn_version == "c1"
