"""The demo's two switches: a candidate that learned the wrong way round, and a way past the gates."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import numpy as np

from actors.hosting import epoch_ms
from actors.publishing import Publisher
from actors.rollout import Rollouts
from actors.router import Router
from actors.trainer_host import assemble
from actors.trainer_settings import TrainerOptions, TrainerSettings
from actors.valkey import valkey_stores
from engine.prior import PriorModel
from training.fit import fit
from training.gates import judge
from training.learner import rows_table
from training.registry import Registry
from training.rollout_plan import Plan, Stage

JUDGING = 0.3
PLAN = Plan(stages=(Stage(0.1, 5, 600, 100), Stage(0.5, 10, 600, 150)))


@dataclass(frozen=True, slots=True)
class Bad:
    """The version, and the first gate that refuses it."""

    version: str
    why_not: str | None


async def keep_inverted(redis_url: str, grace_ms: int = 2000) -> Bad:
    """Fit on the window's rows with their labels turned round; judge by the newest, with their true ones."""
    stores = valkey_stores(redis_url)
    options = TrainerOptions(redis_url, None, TrainerSettings(grace_ms=grace_ms), alone=False)
    training = await assemble(stores, options, saves=False)
    try:
        await training.learning.advance()
        rows = training.learning.columns(20_000)
        cut = int(len(rows.y) * (1 - JUDGING))
        table = rows_table(rows.x[:cut], 1 - rows.y[:cut], rows.t_ms[:cut])
        model = await asyncio.to_thread(fit, table, seed=1)
        registry = Registry(stores.versions)
        version = await registry.add(model)
        champion = str((await stores.versions.world())["model"])
        judging = np.ascontiguousarray(rows.x[cut:])
        answers = PriorModel() if champion == PriorModel.version else await registry.load(champion)
        found = judge(rows.y[cut:], answers.predict_many(judging), model.predictor().predict_many(judging))
        return Bad(version, found.why_not)
    finally:
        await training.router.close()
        await stores.close()


async def put_on_its_way(redis_url: str, version: str) -> str:
    """Submit it as if it had passed, to a canary without a shadow; the rollout's id."""
    stores = valkey_stores(redis_url)
    router = Router(stores.table)
    try:
        rollouts = Rollouts(stores, Publisher(stores.versions, stores.table, router, epoch_ms), epoch_ms)
        why = "DEMO SWITCH: poisoned after the gates"
        return (await rollouts.submit("model", version, why, "the demo", replace(PLAN))).id
    finally:
        await router.close()
        await stores.close()
