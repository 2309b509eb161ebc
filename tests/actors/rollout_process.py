"""Whoever looks at rollouts, as a process of its own over a real store; it kills itself at one of its calls."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

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
    stores, at = valkey_stores(url), 0
    deadly = replace(stores, documents=Deadly(stores.documents), versions=Deadly(stores.versions))
    publisher = Publisher(deadly.versions, stores.table, None, lambda: at * 1000)
    rollouts = Rollouts(deadly, publisher, lambda: at * 1000, RolloutSettings(PLAN, keep_every_s=0.0))
    at = int(await rollouts.restore() or b"0")
    while at < len(stream):
        chunk, at = stream[at : at + CHUNK], at + CHUNK
        await rollouts.look(chunk, b"%d" % at)
    await rollouts.look([], b"%d" % at)
    await stores.close()


if __name__ == "__main__":
    Deadly.left, Deadly.done_first = int(sys.argv[2]), sys.argv[3] == "after"
    asyncio.run(main(sys.argv[1]))
