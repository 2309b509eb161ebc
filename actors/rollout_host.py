"""Rollouts with everything around them: stores, their own reading of the journal, a publisher, on a loop of their own.

A process of its own beside the trainer, which stands back behind everybody: a rollback must not wait for its turn. It
lets visitors go first all the same.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from actors.archive import open_archive
from actors.ending import ended
from actors.history import History
from actors.hosting import TURNS_WITHIN_S, LoopThread, epoch_ms
from actors.learning import Learning, LearningSettings
from actors.learning_saves import ArchiveSaves, Saves, VersionSaves
from actors.priority import let_visitors_first
from actors.publishing import Publisher
from actors.rollout import Rollouts, RolloutSettings
from actors.rollout_reading import RolloutReading
from actors.router import Router
from actors.segments import Segments
from actors.stores import Stores
from actors.valkey import valkey_stores
from engine.errors import KairosError

log = logging.getLogger("kairos.rollout")

NAME: Final = "rollouts"
TRY_AGAIN_S: Final = 0.5
IDLE_TIMES: Final = 4
"""While nothing is on its way there is nothing to judge: it reads on so many times as seldom, and in larger parts."""
WINDOW_ROWS: Final = 20_000
"""Examples remembered, so that a late fact finds what it bears on; nobody trains on them here."""


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """Where the store and the archive are, and how rollouts go here."""

    redis_url: str
    archive: str | None = None
    settings: RolloutSettings = field(default_factory=RolloutSettings)
    alone: bool = True
    """A process of its own, which lets visitors go first; the twin in a thread must not, as its process does not."""


class RolloutHost:
    """Rollouts in a process (a Ray actor) or a thread (its twin). Verbs: start, describe, stop."""

    def __init__(
        self,
        options: RolloutOptions,
        open_stores: Callable[[str], Stores] = valkey_stores,
        clock: Callable[[], int] = epoch_ms,
    ) -> None:
        self._options, self._open_stores, self._clock = options, open_stores, clock
        if options.alone:
            let_visitors_first()
        self._thread = LoopThread(NAME)
        self._task: asyncio.Task[None] | None = None
        self._n_looks = 0
        self._failure = ""

    def start(self) -> None:
        """Begin; a store that is not there yet is waited for."""
        self._thread.run(self._start())

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        stores = self._open_stores(self._options.redis_url)
        router = Router(stores.table)
        learning: Learning | None = None
        reading: RolloutReading | None = None
        try:
            rollouts = Rollouts(
                stores, Publisher(stores.versions, stores.table, router, self._clock), self._clock,
                self._options.settings,
            )  # fmt: skip
            while True:
                try:
                    if learning is None or reading is None:
                        learning = await self._open(stores, rollouts)
                        reading = RolloutReading(learning, rollouts, len(learning.offsets), self._clock)
                    await reading.read_on()
                    await rollouts.look()
                    self._failure = ""
                    self._n_looks += 1
                except KairosError as failure:
                    # The store comes back some time; the shards decide with what is in force until then.
                    self._note(failure.message)
                    await asyncio.sleep(TRY_AGAIN_S)
                except Exception as failure:
                    log.exception("a look at the rollouts failed")
                    self._note(str(failure))
                    await asyncio.sleep(TRY_AGAIN_S)
                look_s = self._options.settings.look_every_s
                await asyncio.sleep(look_s if rollouts.under_way else IDLE_TIMES * look_s)
        finally:
            if learning is not None:
                with suppress(KairosError):
                    await learning.save()
            await router.close()
            await stores.close()

    async def _open(self, stores: Stores, rollouts: Rollouts) -> Learning:
        archive = None if self._options.archive is None else open_archive(self._options.archive)
        history = History(stores.journal, None if archive is None else Segments(archive), foreign=True)
        saves: Saves = VersionSaves(stores.versions, NAME) if archive is None else ArchiveSaves(archive, NAME)
        n_partitions, settings = (await stores.table.read()).n_partitions, self._options.settings
        learning = Learning(
            stores.journal, history, n_partitions, stores.versions, saves, self._clock,
            await stores.table.secret("messages"),
            LearningSettings(WINDOW_ROWS, settings.grace_ms, save_every_ms=int(settings.save_every_s * 1000)),
        )  # fmt: skip
        learning.subscribe(rollouts)
        if not await learning.resume():
            # Of what was decided before the first rollout there is nothing to learn here.
            learning.offsets = await stores.journal.lasts(range(n_partitions))
        await rollouts.begin()
        return learning

    def _note(self, message: str) -> None:
        if message != self._failure:
            log.warning("the rollouts are not looked at: %s", message)
        self._failure = message

    def describe(self) -> dict[str, Any]:
        """Its process and how it fares, told by its loop; TimeoutError if that does not turn."""
        return self._thread.run(self._describe(), TURNS_WITHIN_S)

    async def _describe(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "looks": self._n_looks, "failure": self._failure or None}

    def stop(self) -> None:
        """Keep what was read, and end."""
        self._thread.run(self._stop(), 30.0)
        self._thread.stop()

    async def _stop(self) -> None:
        await ended(self._task)
