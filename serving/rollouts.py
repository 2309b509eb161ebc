"""Rollouts as the HTTP side sees them: candidates and texts in, what stands where out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actors.publishing import Publisher
from actors.stores import Stores
from serving.books import book_sent
from serving.rollout_options import rollout_settings
from serving.settings import Settings

if TYPE_CHECKING:
    from actors.rollout import Rollouts

DRY_RUN_LIMIT: Final = 200
"""Decisions of each shard that a book is tried on before any visitor sees it."""


class PublishedRollouts:
    """Verbs: status, start, start_book, act. They work on the store, whether or not anybody looks at the evidence."""

    def __init__(self, stores: Stores, publisher: Publisher, settings: Settings, clock: Callable[[], int]) -> None:
        self._stores, self._publisher, self._settings, self._clock = stores, publisher, settings, clock
        self._made: Rollouts | None = None

    async def status(self) -> dict[str, Any]:
        """What is under way with its evidence, what waits, what has ended, the audit log."""
        return await (await self._rollouts()).status()

    async def start(self, kind: str, version: str, by: str, why: str) -> dict[str, Any]:
        """Submit a model or a book that is kept; raises as `actors.rollout.Rollouts.submit`."""
        share = self._first_share()
        plan = self._settings.rollout.plan().for_book(share) if kind == "book" else None
        made = await (await self._rollouts()).submit(kind, version, why, by, plan)  # type: ignore[arg-type]
        return await self._told(made.id)

    async def start_book(self, source: str, share: float, by: str, why: str) -> dict[str, Any]:
        """A new book to a share of users, if it is valid and recent decisions can be taken by it.

        Raises:
            BookInvalid: with every finding. InvalidInput: `bad_canary`. Unavailable: no shard answered.
        """
        plan = self._settings.rollout.plan().for_book(share)
        found = await book_sent(source)
        tried = await self._publisher.dry_run(found.book, DRY_RUN_LIMIT)
        version = await self._publisher.keep_book(found.book, source)
        made = await (await self._rollouts()).submit("book", version, why, by, plan)
        dry_run = {name: tried[name] for name in ("decisions", "changed") if name in tried}
        return {"version": version, "rollout": await self._told(made.id), "dryRun": dry_run}

    async def act(self, rollout_id: str, verb: str, by: str, why: str) -> dict[str, Any]:
        """Promote, roll back, pause or resume; raises NotFound `unknown_rollout`, Conflict `rollout_not_running`."""
        rollouts = await self._rollouts()
        verbs = {
            "promote": rollouts.promote, "rollback": rollouts.roll_back, "pause": rollouts.pause,
            "resume": rollouts.resume,
        }  # fmt: skip
        await verbs[verb](rollout_id, by, why)
        return await self._told(rollout_id)

    async def _told(self, rollout_id: str) -> dict[str, Any]:
        status = await (await self._rollouts()).status(0)
        return next(one for one in status["rollouts"] if one["id"] == rollout_id)

    def _first_share(self) -> float:
        return next(share for share in self._settings.rollout.shares if share > 0)

    async def _rollouts(self) -> Rollouts:
        if self._made is None:
            # Their statistics are half a second of imports: neither at the start of an ingress nor on its loop.
            made = await asyncio.to_thread(self._make)
            self._made = self._made or made
        return self._made

    def _make(self) -> Rollouts:
        from actors.rollout import Rollouts

        return Rollouts(self._stores, self._publisher, self._clock, rollout_settings(self._settings))
