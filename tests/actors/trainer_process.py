"""A trainer in a process of its own, for tests that kill it: `python -m tests.actors.trainer_process URL ROUNDS`."""

from __future__ import annotations

import asyncio
import sys

from actors.lessons import Session
from actors.priority import stand_back
from actors.runs import Runs
from actors.trainer import Trainer
from actors.trainer_settings import TrainerSettings
from actors.valkey import valkey_stores
from tests.actors.school import ListSource, examples
from tests.actors.town import Clock


async def live(url: str, n_rounds: int) -> None:
    stores, clock, source = valkey_stores(url), Clock(), ListSource()
    source.arrive(examples(1_200))
    settings = TrainerSettings(params={"n_rounds": n_rounds}, churn=False, tick_ms=20)
    runs = Runs(stores.documents, clock)
    Trainer(source, Session(stores.versions, clock), runs, clock, settings).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    print(*stand_back(), sep=", ", flush=True)
    asyncio.run(live(sys.argv[1], int(sys.argv[2])))
