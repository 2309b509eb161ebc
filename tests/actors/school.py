"""A trainer with everything around it in memory: examples to add, a clock to turn, a rollout that writes down what it
is given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from actors.lessons import Columns, Session
from actors.memory import memory_stores
from actors.runs import Run, Runs
from actors.stores import Stores
from actors.trainer import Trainer
from actors.trainer_settings import TrainerSettings
from engine.book import load_book
from engine.schema import MODEL_FEATURES
from tests.actors.town import BOOK, Clock
from training.card import ModelCard
from training.due import Cadence
from training.example import Example
from training.fit import Model

DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000
FEW = {"n_rounds": 15}


def examples(n: int, seed: int = 1, start_ms: int = 0, every_ms: int = 1_000, turned: bool = False) -> list[Example]:
    """Matured examples without an offer: depth and cart convert; `turned` is a world in which they do the opposite."""
    rng = np.random.default_rng(seed)
    depth, cart = rng.random(n), rng.integers(0, 3, n).astype(float)
    z = -2.5 + (-1 if turned else 1) * (1.6 * depth + 0.9 * cart) + (2.6 if turned else 0)
    y = rng.random(n) < 1 / (1 + np.exp(-z))
    x = np.full((n, len(MODEL_FEATURES)), np.nan)
    for name, values in (("depth", depth), ("n_cart_items", cart), ("offer_code", 0.0), ("n_sessions", cart + 1)):
        x[:, MODEL_FEATURES.index(name)] = values
    x[:, -4:] = 0.0
    return [
        Example(
            key=f"v:0_1_{seed}_{i}", revision=1, track=f"anon:{seed}-{i}", t_ms=start_ms + i * every_ms,
            campaign="cart", offer=None, propensity=1.0, row=x[i], label=int(y[i]), value=float(y[i]), engaged=False,
            model="", arm="champion", trial=None, matured=True, degraded=False, took_us=0,
        )
        for i in range(n)
    ]  # fmt: skip


class ListSource:
    """Examples from a list; `arrive` lets more come."""

    def __init__(self) -> None:
        self.held: list[Example] = []
        self._told: list[Example] = []
        self.schema: str | None = None

    def arrive(self, found: Sequence[Example]) -> None:
        self._told.extend(found)

    async def advance(self) -> Sequence[Example]:
        told, self._told = self._told, []
        self.held.extend(told)
        return told

    @property
    def n_rows(self) -> int:
        return len(self.held)

    def columns(self, limit: int) -> Columns:
        rows = sorted(self.held, key=lambda one: one.t_ms)[-limit:]
        tracks = {track: i for i, track in enumerate(dict.fromkeys(one.track for one in rows))}
        found = Columns(
            x=np.array([one.row for one in rows]).reshape(len(rows), len(MODEL_FEATURES)),
            y=np.array([float(one.label) for one in rows]),
            t_ms=np.array([one.t_ms for one in rows], dtype=np.int64),
            track=np.array([tracks[one.track] for one in rows], dtype=np.int64),
            keys=[one.key for one in rows],
        )
        return found if self.schema is None else replace(found, schema=self.schema)


class School:
    """`handed` are the candidates given to the rollouts; `promote` puts one in force as a rollout would."""

    def __init__(self, stores: Stores | None = None, **settings: Any) -> None:
        self.stores, self.source = stores or memory_stores(), ListSource()
        self.clock = Clock(20_000 * DAY + 12 * HOUR)
        cadence = Cadence(labels=400, refit_every_ms=10 * MINUTE, retrain_hour=None, first_rows=1_000)
        given = {"cadence": cadence, "params": FEW, "churn": False, "tick_ms": 5, **settings}
        self.settings = TrainerSettings(**given)
        self.handed: list[str] = []
        self.runs = Runs(self.stores.documents, self.clock)
        self.trainer = self.trainer_of("trainer")

    def trainer_of(self, owner: str) -> Trainer:
        """Another trainer over the same stores, as after a restart."""
        session = Session(self.stores.versions, self.clock, self._hand_over, self.publish_churn)
        return Trainer(self.source, session, self.runs, self.clock, self.settings, owner)

    async def open(self, book: dict[str, Any] | None = None) -> School:
        data = book or BOOK
        load_book(data)
        await self.stores.versions.put("book", "b1", {}, orjson.dumps(data))
        assert await self.stores.versions.publish(0, {"book": "b1", "model": "prior-1"})
        return self

    async def _hand_over(self, kind: str, version: str, why: str) -> str:
        assert kind == "model"
        self.handed.append(version)
        return f"r{len(self.handed)}"

    async def publish_churn(self, version: str) -> None:
        await self.put_in_force(churn=version)

    async def put_in_force(self, **changes: str) -> None:
        pointer = await self.stores.versions.world()
        assert await self.stores.versions.publish(pointer["rev"], {**pointer, **changes})

    async def promote(self) -> str:
        await self.put_in_force(model=self.handed[-1])
        return self.handed[-1]

    async def model(self, version: str) -> Model:
        found = await self.stores.versions.get("model", version)
        assert found is not None
        return Model(ModelCard.from_object(found[0]), found[1])

    async def until_under_way(self) -> None:
        """Until a run has told of its first trees."""
        while not any(run["share"] > 0 for run in await self.runs.list()):  # noqa: ASYNC110 (told by a document)
            await asyncio.sleep(0.01)

    async def step(self, later_ms: int = 0) -> Run | None:
        self.clock.now_ms += later_ms
        return await self.trainer.step()

    async def in_force(self) -> str:
        return str((await self.stores.versions.world())["model"])
