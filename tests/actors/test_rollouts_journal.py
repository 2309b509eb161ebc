"""Rollouts read what became of visitors from the journals of real shards, and a kill of theirs counts nobody twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from actors.learning import Learning
from actors.learning_saves import VersionSaves
from actors.rollout import Rollouts
from tests.actors.test_learning import learning, order
from tests.actors.town import Town
from tests.actors.trials import Constant, a_town, rollouts_of
from training.rollout_plan import Plan, Stage

MINUTE = 60_000
PLAN = Plan(stages=(Stage(0.0, 1, 10**6, 60), Stage(0.5, 1, 10**6, 10**6)), quality_margin=5.0)
N = 400
BUYERS = 120


class Broken(Constant):
    """A model that loads, is warm, and stops giving numbers to visitors."""

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.left = 6

    def predict_one(self, row: Any, /) -> float:
        self.left -= 1
        return super().predict_one(row) if self.left > 0 else float("nan")


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    made = await a_town()
    yield made
    await made.stop()


async def watched(town: Town) -> tuple[Learning, Rollouts]:
    rollouts = rollouts_of(town, PLAN)
    reader = await learning(town, VersionSaves(town.stores.versions, "rollouts"), save_every_ms=0)
    reader.subscribe(rollouts)
    await reader.resume()
    await rollouts.begin()
    return reader, rollouts


async def visit(town: Town, names: Sequence[str], buyers: int = 0) -> list[str]:
    """Visitors who decide, of whom the first ones buy; then their time is over. In which arm each was."""
    arms = []
    for i, name in enumerate(names):
        arms.append((await town.decide(name))["decision"]["model"]["arm"])
        if i < buyers:
            await town.observe(name, order(town, f"o-{name}"))
    town.clock.now_ms += 10 * MINUTE
    return arms


async def turn(town: Town, reader: Learning, rollouts: Rollouts) -> dict[str, Any]:
    await reader.advance()
    town.clock.now_ms += 2000
    await rollouts.look()
    return dict(await rollouts.status())


async def test_what_visitors_did_moves_a_candidate_from_shadow_into_both_arms(town: Town) -> None:
    reader, rollouts = await watched(town)
    await rollouts.submit("model", "m1", "")
    assert set(await visit(town, [f"anon:s{i}" for i in range(N)], BUYERS)) == {"champion"}
    status = await turn(town, reader, rollouts)
    evidence = status["running"]["evidence"]
    assert (evidence["users"], evidence["exposed"], evidence["logLoss"]["pairs"]) == (N, 0, N)
    assert status["running"]["stage"] == "canary 50 %"
    arms = await visit(town, [f"anon:c{i}" for i in range(60)], 20)
    # Whoever watched dies here; who comes next goes on from what was saved, and reads some of it again.
    reader, rollouts = await watched(town)
    evidence = (await turn(town, reader, rollouts))["running"]["evidence"]
    counted = evidence["stages"][1]
    assert counted["users"] == [arms.count("champion"), arms.count("challenger")]
    assert sum(counted["conversions"]) == 20
    assert evidence["users"] == N + 60


async def test_a_model_that_stops_giving_numbers_is_back_before_anybody_is_exposed(town: Town) -> None:
    async def load(version: str) -> Any:
        return Broken(version)

    for shard in town.shards.values():
        shard.worlds._load_model = load
    reader, rollouts = await watched(town)
    await rollouts.submit("model", "m1", "")
    await visit(town, [f"anon:s{i}" for i in range(40)])
    status = await turn(town, reader, rollouts)
    assert status["rollouts"][0]["phase"] == "rolled_back"
    assert "score faults" in status["rollouts"][0]["reason"]
    assert status["audit"][0]["numbers"]["exposed"] == 0
    assert (await town.stores.versions.world())["rollout"] is None
