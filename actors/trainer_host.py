"""A trainer with everything around it: stores, archive, learning and rollouts, on an event loop of its own thread."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from actors.archive import Archive, open_archive
from actors.beliefs import BeliefUpdates
from actors.catalogues import OfferPublisher
from actors.ending import ended
from actors.history import History
from actors.hosting import LoopThread, epoch_ms
from actors.learning import Learning, LearningSettings
from actors.learning_saves import ArchiveSaves, Saves, VersionSaves
from actors.lessons import Records, Session
from actors.priority import stand_back
from actors.publishing import Publisher
from actors.rollout import Rollouts
from actors.router import Router
from actors.runs import Runs
from actors.segments import Segments
from actors.stores import Stores
from actors.trainer import Trainer
from actors.trainer_settings import TrainerOptions
from actors.valkey import valkey_stores
from engine.errors import KairosError
from engine.ids import DecisionId
from engine.record import Record
from training.registry import Registry

log = logging.getLogger("kairos.trainer")

NAME: Final = "trainer"
TRY_AGAIN_S: Final = 1.0
AT_ONCE: Final = 16
FILLED_IN_S: Final = 400.0
"""The window spans as long at least: a model of the last minute's visitors would be one of that minute alone."""


@dataclass(frozen=True, slots=True)
class Training:
    """The parts of a trainer, put together over one set of stores."""

    trainer: Trainer
    learning: Learning
    runs: Runs
    router: Router
    beliefs: BeliefUpdates

    async def close(self) -> None:
        """End what is under way and keep what was read."""
        await self.trainer.stop()
        with suppress(KairosError):
            await self.learning.save()
        await self.router.close()


async def assemble(
    stores: Stores,
    options: TrainerOptions,
    clock: Callable[[], int] = epoch_ms,
    *,
    owner: str = NAME,
    saves: bool = True,
) -> Training:
    """Put a trainer together; `saves` False reads what the trainer has saved and saves nothing itself.

    Raises Unavailable `no_table` while nobody has made the partition table.
    """
    archive = None if options.archive is None else open_archive(options.archive)
    history = History(stores.journal, None if archive is None else Segments(archive), foreign=True)
    kept: Saves = _kept(stores, archive)
    n_rows, grace_ms = options.settings.window_rows, options.settings.grace_ms
    settings = LearningSettings(window_rows=n_rows, grace_ms=grace_ms, most_per_s=n_rows / FILLED_IN_S)
    n_partitions = (await stores.table.read()).n_partitions
    key = await stores.table.secret("messages")
    learning = Learning(
        stores.journal, history, n_partitions, stores.versions, kept if saves else _ReadOnly(kept), clock, key, settings
    )
    router = Router(stores.table)
    publisher = Publisher(stores.versions, stores.table, router, clock)
    rollouts = Rollouts(stores, publisher, clock, options.rollouts)

    async def hand_over(kind: str, version: str, why: str) -> str:
        assert kind == "model"
        return (await rollouts.submit("model", version, why)).id

    runs = Runs(stores.documents, clock)
    session = Session(stores.versions, clock, hand_over, publisher.publish_churn, records_of(history))
    trainer = Trainer(learning, session, runs, clock, options.settings, owner, options.archive)
    offers = OfferPublisher(stores.versions, publisher, clock)
    load = Registry(stores.versions).load
    # Learning that is resumed has another window than the one it was made with.
    beliefs = BeliefUpdates(lambda: learning.window.matured(), stores.versions, load, offers)  # noqa: PLW0108
    return Training(trainer, learning, runs, router, beliefs)


def _kept(stores: Stores, archive: Archive | None) -> Saves:
    return VersionSaves(stores.versions, NAME) if archive is None else ArchiveSaves(archive, NAME)


class _ReadOnly:
    """The saves of somebody else."""

    def __init__(self, saves: Saves) -> None:
        self._saves = saves

    async def load(self) -> list[bytes]:
        return await self._saves.load()

    async def save(self, blob: bytes, *, alone: bool = False) -> None:
        """Nothing is kept."""


def records_of(history: History) -> Records:
    """Reads decision records by id, each journal entry once."""

    async def read(keys: Sequence[str]) -> Mapping[str, Record]:
        by_entry: dict[tuple[int, int, int], list[tuple[str, int]]] = {}
        for key in keys:
            at = DecisionId.parse(key)
            by_entry.setdefault((at.partition, at.epoch, at.seq), []).append((key, at.index))
        entries = list(by_entry)
        found: dict[str, Record] = {}
        for start in range(0, len(entries), AT_ONCE):
            some = entries[start : start + AT_ONCE]
            payloads = await asyncio.gather(*(history.get(p, (epoch, seq)) for p, epoch, seq in some))
            for entry, payload in zip(some, payloads, strict=True):
                records = [] if payload is None else orjson.loads(payload)[1:]
                found.update({k: records[i] for k, i in by_entry[entry] if i < len(records) and records[i] is not None})
        return found

    return read


class TrainerHost:
    """The trainer in a process (a Ray actor) or a thread (its twin). Verbs: start, describe, stop."""

    def __init__(
        self,
        options: TrainerOptions,
        open_stores: Callable[[str], Stores] = valkey_stores,
        clock: Callable[[], int] = epoch_ms,
    ) -> None:
        self._options, self._open_stores, self._clock = options, open_stores, clock
        self.stood_back = stand_back() if options.alone else []
        self._thread = LoopThread(NAME)
        self._stores: Stores | None = None
        self._training: Training | None = None
        self._opening: asyncio.Task[None] | None = None
        self._beliefs: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; a store that is not there yet is waited for."""
        self._thread.run(self._start())

    async def _start(self) -> None:
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        self._stores = stores = self._open_stores(self._options.redis_url)
        while self._training is None:
            try:
                self._training = await assemble(stores, self._options, self._clock)
            except KairosError as failure:
                log.warning("the trainer cannot start yet: %s", failure.message)
                await asyncio.sleep(TRY_AGAIN_S)
        self._training.trainer.start()
        self._beliefs = asyncio.create_task(self._training.beliefs.run())

    def describe(self) -> dict[str, Any]:
        """Its process, and how far it stands back."""
        return {"pid": os.getpid(), "stood_back": self.stood_back, "begun": self._training is not None}

    def stop(self) -> None:
        """End what is under way, keep what was read."""
        self._thread.run(self._stop(), 30.0)
        self._thread.stop()

    async def _stop(self) -> None:
        await ended(self._opening, self._beliefs)
        if self._training is not None:
            await self._training.close()
        if self._stores is not None:
            await self._stores.close()
