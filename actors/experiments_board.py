"""Experiments for whoever asks over HTTP: worked out beside the hot path, on request only, and kept in the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from actors.archive import open_archive
from actors.ending import ended
from actors.history import History
from actors.hosting import LoopThread, epoch_ms
from actors.segments import Segments
from actors.stores import Documents, Stores
from actors.valkey import valkey_stores
from engine.errors import KairosError

if TYPE_CHECKING:
    from actors.experiments import ExperimentReader

log = logging.getLogger("kairos.experiments")

RESULTS, WANTED, PROGRESS = "experiments/results", "experiments/wanted", "experiments/progress"
FRESH_MS: Final = 10_000
"""Results younger than this are given as they are."""
EVERY_S: Final = 0.5
_LOOK_S: Final = 0.1


class ExperimentBoard:
    """What an ingress reads: the last results, and a request for newer ones where these are old."""

    def __init__(self, documents: Documents, clock: Callable[[], int], patience_s: float = 1.5) -> None:
        self._documents, self._clock, self._patience_s = documents, clock, patience_s

    async def read(self) -> dict[str, Any]:
        """Results with the time they are of.

        `pending` where newer ones are still being worked out, with `progress`, the share of the journal that has been
        read for them, where that takes its time.
        """
        now_ms = self._clock()
        kept = await self._documents.get(RESULTS)
        if kept is None or now_ms - kept[1]["asOfMs"] >= FRESH_MS:
            await _put(self._documents, WANTED, {"at_ms": now_ms})
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    while kept is None or kept[1]["asOfMs"] < now_ms:
                        await asyncio.sleep(_LOOK_S)
                        kept = await self._documents.get(RESULTS)
        pending = kept is None or now_ms - kept[1]["asOfMs"] >= FRESH_MS
        found = {"experiments": [], "asOfMs": None} if kept is None else kept[1]
        return {**found, "pending": pending, **(await self._progress(now_ms) if pending else {})}

    async def _progress(self, now_ms: int) -> dict[str, float]:
        told = await self._documents.get(PROGRESS)
        recent = told is not None and told[1]["at_ms"] >= now_ms - FRESH_MS
        return {"progress": told[1]["share"]} if told is not None and recent else {}


class ExperimentsHost:
    """Answers the board's requests, on an event loop of its own thread. Verbs: start, stop."""

    def __init__(
        self,
        redis_url: str,
        archive: str | None,
        open_stores: Callable[[str], Stores] = valkey_stores,
        clock: Callable[[], int] = epoch_ms,
        every_s: float = EVERY_S,
    ) -> None:
        self._redis_url, self._archive, self._open_stores = redis_url, archive, open_stores
        self._clock, self._every_s = clock, every_s
        self._thread = LoopThread("experiments")
        self._work: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin beside whatever else runs; nothing is read before somebody asks."""
        self._thread.run(self._start())

    async def _start(self) -> None:
        self._work = asyncio.create_task(self._live())

    async def _live(self) -> None:
        stores = self._open_stores(self._redis_url)
        segments = None if self._archive is None else Segments(open_archive(self._archive))
        reader: ExperimentReader | None = None
        answered_ms = 0
        try:
            while True:
                try:
                    wanted = await stores.documents.get(WANTED)
                    if wanted is not None and wanted[1]["at_ms"] > answered_ms:
                        now_ms = max(self._clock(), wanted[1]["at_ms"])
                        if reader is None:
                            # Statistics are imported when somebody asks: who only serves should not pay for them.
                            from actors.experiments import ExperimentReader

                            history = History(stores.journal, segments, foreign=True)
                            reader = ExperimentReader(stores, history, self._clock)
                        await reader.advance(partial(self._tell, stores.documents))
                        found = {"experiments": await reader.results(), "asOfMs": now_ms}
                        await _put(stores.documents, RESULTS, found)
                        answered_ms = now_ms
                except KairosError as failure:
                    log.warning("experiments: %s", failure.message)
                except Exception:
                    log.exception("experiments: they cannot be evaluated")
                await asyncio.sleep(self._every_s)
        finally:
            await stores.close()

    async def _tell(self, documents: Documents, share: float) -> None:
        await _put(documents, PROGRESS, {"share": share, "at_ms": self._clock()})

    def stop(self) -> None:
        """End it; what was read is read again after the next start."""
        self._thread.run(self._stop(), 10.0)
        self._thread.stop()

    async def _stop(self) -> None:
        await ended(self._work)


async def _put(documents: Documents, name: str, document: dict[str, Any]) -> None:
    while True:
        known = await documents.get(name)
        if await documents.compare_and_set(name, 0 if known is None else known[0], document):
            return
