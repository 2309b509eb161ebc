"""Whoever looks at rollouts, as a process of its own over a real store; it kills itself at one of its calls."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import orjson

from actors.learning_saves import VersionSaves
from actors.publishing import Publisher
from actors.rollout import Rollouts, RolloutSettings
from actors.valkey import valkey_stores
from tests.actors.archiver_process import Deadly
from tests.training.rollouts import crowd
from training.rollout_plan import Plan, Stage

PLAN = Plan(
    stages=(Stage(0.0, 1, 10**6, 6000), Stage(0.1, 1, 10**6, 2000), Stage(0.5, 1, 10**6, 22_000)), quality_margin=0.05
)
CHUNK = 3000


async def main(url: str) -> None:
    """Read on from where the evidence was kept, until there is no more; a second passes with every example."""
    stream = [
        *crowd(6000, noise=0.02), *crowd(2000, seed=2, stage="canary-0.1", share=0.1, who="v"),
        *crowd(22_000, seed=3, stage="canary-0.5", share=0.5, who="w", noise=0.02),
    ]  # fmt: skip
    stores = valkey_stores(url)
    deadly = replace(stores, documents=Deadly(stores.documents), versions=Deadly(stores.versions))
    publisher = Publisher(deadly.versions, stores.table, None, lambda: at * 1000)
    rollouts = Rollouts(deadly, publisher, lambda: at * 1000, RolloutSettings(PLAN))
    saves, at = VersionSaves(deadly.versions, "rollouts"), 0
    for blob in (await saves.load())[:1]:
        held = orjson.loads(blob)
        at = held["at"]
        rollouts.restore(held["state"])
    await rollouts.begin()
    while at < len(stream):
        rollouts.take(stream[at : at + CHUNK])
        at += CHUNK
        # As learning does: saved before it was looked at, now and then.
        if at // CHUNK % 2:
            await saves.save(orjson.dumps({"at": at, "state": rollouts.state()}))
        await rollouts.look()
    await rollouts.look()
    await stores.close()


if __name__ == "__main__":
    Deadly.left, Deadly.done_first = int(sys.argv[2]), sys.argv[3] == "after"
    asyncio.run(main(sys.argv[1]))
