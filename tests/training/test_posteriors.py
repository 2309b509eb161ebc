"""Posteriors: what outcomes teach of each offer in each segment, and what a Thompson policy makes of it."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.beliefs import BeliefUpdates
from actors.catalogues import OfferPublisher
from actors.memory import memory_stores
from actors.publishing import Publisher
from engine.policy import draw, propensities
from engine.posteriors import MOST, Belief, Posteriors, moved
from engine.schema import N_FEATURES
from tests.actors.town import BOOK, Town
from tests.engine.test_decide import Flat, changed, inputs, run, world
from training.example import Example
from training.posteriors import beliefs_of
from training.window import Window


def example(
    key: str, offer: str | None, label: int, segment: str = "deep", p: float = 0.2, share: float = 0.5
) -> Example:
    row = np.zeros(N_FEATURES)
    row[0] = p
    return Example(
        key=key, revision=1, track=f"anon:{key}", t_ms=1000 + len(key), campaign="cart", offer=offer, propensity=share,
        row=row, label=label, value=10.0 * label, engaged=False, model="m", arm="champion", trial=None, matured=True,
        degraded=False, took_us=0, segment=segment,
    )  # fmt: skip


def first_feature(rows: Any) -> Any:
    return rows[:, 0]


def window(*examples: Example) -> Window:
    kept = Window()
    kept.upsert(examples)
    return kept


def test_outcomes_are_counted_by_offer_and_segment_beside_what_the_model_expected() -> None:
    rows = window(
        *(example(f"a{i}", "free", int(i < 3)) for i in range(10)),
        *(example(f"b{i}", "free", 1, segment="") for i in range(2)),
        *(example(f"c{i}", None, 0, p=0.1) for i in range(5)),
        *(example(f"d{i}", None, 1, share=1.0) for i in range(9)),  # nothing else could be shown
    ).matured()
    assert beliefs_of(rows, first_feature) == {
        "cart.": {"deep": Belief(5, 0, 0.5, 0.45)},
        "cart.free": {"": Belief(2, 2, 0.4, 0.32), "deep": Belief(10, 3, 2.0, 1.6)},
    }
    assert set(beliefs_of(rows, first_feature, known=["cart.other"])) == {"cart."}


@given(st.permutations(list(range(12))))
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_examples_does_not_matter(order: list[int]) -> None:
    made = [example(f"e{i:02}", ("free", "capped", None)[i % 3], i % 2, p=0.1 + 0.07 * i) for i in range(12)]
    assert beliefs_of(window(*(made[i] for i in order)).matured(), first_feature) == beliefs_of(
        window(*made).matured(), first_feature
    )


def test_a_saved_window_keeps_the_segment() -> None:
    again = Window.from_bytes(window(example("a", "free", 1)).to_bytes())
    assert again is not None
    assert again.matured().segment == ["deep"]


def test_a_published_version_is_read_back_as_it_was() -> None:
    beliefs = {"cart.free": {"deep": Belief(10, 3, 2.0)}, "cart.": {"": Belief(4, 1, 0.5)}}
    found = Posteriors.from_bytes("p1", Posteriors("p1", beliefs).to_bytes())
    assert found == Posteriors("p1", beliefs)
    assert found.of("cart.free", "nowhere") == Belief(0, 0, 0)


COUNTS = st.floats(0, 1e5)
BELIEFS = st.builds(lambda n, c, e, v: Belief(n, c * n, e * n, v * e * (1 - e) * n),
                    COUNTS, st.floats(0, 1), st.floats(0.001, 0.999), st.floats(0, 1))  # fmt: skip


@given(st.dictionaries(st.sampled_from(["", "deep", "near"]), BELIEFS, min_size=1))
def test_a_shift_goes_the_way_of_the_outcomes_and_never_beyond_its_bounds(by: dict[str, Belief]) -> None:
    found = Posteriors("p", {"cart.free": by})
    assert all(-MOST <= found.shift("cart.free", segment) <= MOST for segment in [*by, "nowhere"])
    gap = sum(b.converted - b.expected for b in by.values())
    assert found.shift("cart.free", "nowhere") * gap >= 0.0
    assert found.shift("cart.other", "deep") == 0.0
    if len(by) == 1:
        (segment,) = by
        assert found.shift("cart.free", segment) * gap >= 0.0


def test_many_outcomes_move_the_model_to_the_rate_that_was_seen_and_few_hardly() -> None:
    def likely(n: float) -> float:
        by = {"deep": Belief(n, 0.25 * n, 0.2 * n, 0.16 * n)}
        return moved(0.2, Posteriors("p", {"cart.free": by}).shift("cart.free", "deep"))

    assert likely(100_000) == pytest.approx(0.25, abs=0.005)
    assert 0.2 < likely(4) < 0.23


def test_a_segment_with_few_outcomes_follows_the_offer_and_one_with_many_itself() -> None:
    by = {"deep": Belief(2000, 600, 400, 320), "near": Belief(2, 0, 0.4, 0.32), "far": Belief(2000, 400, 400, 320)}
    found = Posteriors("p", {"cart.free": by})
    own = found.shift("cart.free", "elsewhere")
    assert 0.2 < own < 0.4
    assert abs(found.shift("cart.free", "near") - own) < 0.25
    assert found.shift("cart.free", "deep") > 1.5 * own
    assert abs(found.shift("cart.free", "far")) < 0.05


@given(st.floats(0, 1), st.floats(-MOST, MOST))
def test_a_moved_probability_is_one_and_keeps_its_order(p: float, shift: float) -> None:
    assert 0.0 <= moved(p, shift) <= 1.0
    assert (moved(p, shift) - p) * shift >= -1e-8
    assert moved(moved(p, shift), -shift) == pytest.approx(p, abs=1e-8)


def test_a_sure_buyer_gains_next_to_nothing_by_an_offer_that_works() -> None:
    taught = with_posteriors({"main.good": {"": Belief(4000, 640, 520)}})
    sure, open_ = (taught_uplifts(taught, p) for p in (0.97, 0.4))
    assert sure["good"] < 0.01
    assert open_["good"] > 0.05


def with_posteriors(beliefs: dict[str, dict[str, Belief]]) -> Any:
    from dataclasses import replace

    offers = {name: {"content": name, "value": 30, "cost": 1} for name in ("good", "bad", "third")}
    book = changed(policy={"kind": "thompson"}, offers=offers, segments={})
    return replace(world(book, Flat(0.1, 0.13)), posteriors=Posteriors("p1", beliefs))


def taught_uplifts(taught: Any, p: float) -> dict[str, float]:
    from dataclasses import replace

    return {v.offer: v.uplift for v in run(inputs(), replace(taught, model=Flat(p, p))).verdicts}


def shares(decision: Any) -> dict[str, float]:
    return dict(zip(decision.slots[0].candidates, decision.slots[0].propensities, strict=True))


def test_with_outcomes_a_thompson_policy_explores_less_and_prefers_what_worked() -> None:
    unsure = shares(run(inputs(), with_posteriors({})))
    learned = {
        "main.good": {"": Belief(4000, 640, 520)},
        "main.bad": {"": Belief(4000, 430, 520)},
        "main.third": {"": Belief(4000, 520, 520)},
    }
    sure = shares(run(inputs(), with_posteriors(learned)))
    assert unsure["good"] == pytest.approx(unsure["bad"], abs=1e-6)
    assert sure["good"] > 0.95 > unsure["good"]
    assert sure["bad"] < 0.01
    assert sum(sure.values()) == pytest.approx(1.0, abs=1e-9)


def test_the_verdict_keeps_the_models_own_probability() -> None:
    decision = run(inputs(), with_posteriors({"main.good": {"": Belief(4000, 640, 520)}}))
    assert {v.p for v in decision.verdicts} == {0.13}
    uplift = {v.offer: v.uplift for v in decision.verdicts}
    assert uplift["good"] is not None
    assert uplift["bad"] is not None
    assert uplift["good"] > uplift["bad"]


@pytest.mark.parametrize("policy", [{"kind": "thompson"}, {"kind": "epsilon_greedy", "epsilon": 0.3}])
def test_what_is_shown_agrees_with_the_recorded_propensities(policy: dict[str, Any]) -> None:
    offers = {f"o{i}": {"content": f"o{i}", "value": 20 + 2 * i, "cost": 1} for i in range(4)}
    w = world(changed(policy=policy, offers=offers, segments={}), Flat(0.1, 0.13))
    read, n, seen = inputs(limit=3), 4000, dict[str, int]()
    told = shares(run(read, w, 0))
    for seed in range(n):
        decision = run(read, w, seed)
        for slot in decision.slots:
            assert sum(slot.propensities) == pytest.approx(1.0, abs=1e-9)
        first = decision.slots[0].drawn
        seen[first] = seen.get(first, 0) + 1
    chi2 = sum((seen.get(o, 0) - n * p) ** 2 / (n * p) for o, p in told.items() if n * p > 5)
    degrees = sum(n * p > 5 for p in told.values()) - 1
    # The 0.999 quantile of χ², by Wilson and Hilferty.
    assert chi2 < degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3


@given(st.integers(0, 10**6), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_every_slot_of_every_policy_sums_to_one_over_the_remainder(seed: int, n: int) -> None:
    from engine.policy import NONE, Candidate

    dice = Random(seed)
    left = [Candidate(NONE, 0.0)]
    left += [Candidate(f"o{i}", dice.uniform(-1, 2), dice.uniform(0, 1), dice.randrange(3)) for i in range(n)]
    kind = dice.choice(["thompson", "epsilon_greedy", "greedy"])
    while len(left) > 1:
        found = propensities(kind, left, 0.2)
        assert sum(found) == pytest.approx(1.0, abs=1e-9)
        assert all(p >= 0 for p in found)
        drawn = draw(found, dice)
        left.pop(drawn if drawn else 1)


async def test_matured_outcomes_become_a_published_version_that_decisions_name_and_replay_with() -> None:
    town = await Town(memory_stores(), n_shards=1).start({**BOOK})
    versions = town.stores.versions
    publisher = Publisher(versions, town.stores.table, town, town.clock)
    kept = window(*(example(f"a{i}", "free", i % 2, segment="") for i in range(40)))
    updates = BeliefUpdates(kept.matured, versions, no_models, OfferPublisher(versions, publisher, town.clock))
    version = await updates.step()
    assert version is not None
    assert await updates.step() == version
    reply = await town.decide("anon:a")
    decision = reply["decision"]["decisionId"]
    partition = int(decision.split("_")[1])
    looked = await town.ask_partition(partition, "decision", {"decision_id": decision, "replay": True})
    assert looked["record"]["identical"] is True
    current = town.shards[0].worlds.current
    assert current is not None
    assert current.posteriors_version == version
    await town.stop()


async def no_models(version: str) -> Any:
    raise AssertionError(version)
