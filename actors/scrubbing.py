"""When redacted bytes leave the store's memory and files: soon after an erasure, many at once, also after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from actors.stores import Scrub
from engine.errors import KairosError

ASK_AGAIN_MS: Final = 5_000
"""After a failure."""


class Scrubbing:
    """Verbs: soon, claimed, step. Without a `Scrub` nothing is ever to do."""

    def __init__(self, scrub: Scrub | None, every_ms: int, clock: Callable[[], int]) -> None:
        self._scrub, self._every_ms, self._clock = scrub, every_ms, clock
        self._unclean: set[int] = set()
        self._next_ms = 0

    async def soon(self, partition: int) -> None:
        """What was redacted there is to go, together with what is redacted in the meantime; a crash forgets it not.

        Raises:
            engine.errors.Unavailable: the store could not note it.
        """
        if self._scrub is not None:
            # In this order a scrub that ends in between leaves a note too many, never one too few.
            self._unclean.add(partition)
            await self._scrub.note(partition)

    async def claimed(self, partition: int) -> None:
        """Find out what an earlier owner has left to do.

        Raises:
            engine.errors.Unavailable: the store does not answer.
        """
        if self._scrub is not None and await self._scrub.noted(partition):
            self._unclean.add(partition)

    async def step(self, lock: Callable[[int], asyncio.Lock]) -> None:
        """Scrub what waits for it, if it is time; nothing is on its way to the archive meanwhile.

        Raises:
            engine.errors.Unavailable: the store did not do it now; it waits on.
        """
        now_ms = self._clock()
        # A clock that was put back does not make it wait.
        if self._scrub is None or not self._unclean or self._next_ms - self._every_ms <= now_ms < self._next_ms:
            return
        self._next_ms = now_ms + self._every_ms
        unclean, self._unclean = self._unclean, set()
        try:
            for partition in sorted(unclean):
                async with lock(partition):
                    await self._scrub.scrub(partition)
            await self._scrub.rewrite()
            # What was redacted since is noted in `_unclean` again, and its note in the store stays.
            for partition in unclean - self._unclean:
                await self._scrub.forget(partition)
        except KairosError:
            self._unclean |= unclean
            self._next_ms = now_ms + min(ASK_AGAIN_MS, self._every_ms)
            raise
