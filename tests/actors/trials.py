"""A town with rollouts: models that are constants, a publisher that tells its shards, examples from nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from actors.publishing import Publisher
from actors.rollout import Rollouts, RolloutSettings
from actors.stores import Stores
from engine.predictor import Predictor
from engine.schema import schema_hash
from tests.actors.town import Town
from tests.training.rollouts import SHORT
from training.rollout_plan import Plan


class Constant:
    """A model that says the same of everybody."""

    kind = "lightgbm"

    def __init__(self, version: str, p: float = 0.2) -> None:
        self.version, self._p, self.schema_hash = version, p, schema_hash()

    def predict_one(self, row: Any, /) -> float:
        return self._p

    def predict_many(self, rows: Any, /) -> Any:
        return np.full(len(rows), self._p)


async def constants(version: str) -> Predictor:
    return Constant(version)


async def a_town(stores: Stores | None = None) -> Town:
    """Two shards, with the models m1 … m9 kept and the prior in force."""
    town = Town(stores)
    town.load_model = constants
    await town.start()
    for n in range(1, 10):
        await town.stores.versions.put("model", f"m{n}", {"created_ms": n}, b"m%d" % n)
    return town


def publisher_of(town: Town) -> Publisher:
    return Publisher(town.stores.versions, town.stores.table, town, town.clock)


def rollouts_of(town: Town, plan: Plan = SHORT) -> Rollouts:
    return Rollouts(town.stores, publisher_of(town), town.clock, RolloutSettings(plan))


async def arms(town: Town, n: int = 40) -> list[str]:
    """With which version visitors are decided, and every shard is asked."""
    return [(await town.decide(f"anon:v{i}"))["decision"]["model"]["version"] for i in range(n)]
