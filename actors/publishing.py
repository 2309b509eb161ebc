"""Publishing books and models, whole or on trial: keep the version, move the pointer, tell the shards.

The pointer moves by compare-and-set. It is `{"rev", "book", "model", "churn", "rollout"}`; `rollout` is null or
`{"id", "kind": "model" | "book", "candidate", "stage": "shadow" | "canary", "share", "since_ms"}`. Of a pointer written
by an earlier version the last two may be absent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from actors.asking import Asks
from actors.dry_running import dry_run_everywhere
from actors.stores import Table, Versions
from engine.book import Book, book_version
from engine.errors import Conflict, KairosError, NotFound, Unavailable
from engine.prior import PriorModel

ATTEMPTS: Final = 20
TELL_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Moved:
    """The pointer after a trial was begun, changed or ended; why each shard that cannot try the candidate cannot."""

    rev: int
    refused: tuple[str, ...] = ()


class Publisher:
    """Changes what is in force: in the store when a method returns, and known to every shard that answers.

    Whatever is published as a whole ends a trial of its kind: what that was compared with is no longer in force.
    """

    def __init__(self, versions: Versions, table: Table, tells: Asks | None, clock: Callable[[], int]) -> None:
        self._versions, self._table, self._tells, self._clock = versions, table, tells, clock

    async def publish_book(self, book: Book, source: str) -> str:
        """Keep a book and put it in force; `source` is its text as written. Returns its version.

        The same content as the book in force publishes nothing new.
        """
        version = ""
        for _ in range(ATTEMPTS):
            pointer = await self._versions.world()
            if not version:
                n = 1 + max((int(v[1:].split("-")[0]) for v, _ in await self._versions.list("book")), default=0)
                version = book_version(book, n)
            if pointer["book"].partition("-")[2] == version.partition("-")[2]:
                return str(pointer["book"])
            try:
                meta = {"created_ms": self._clock(), "source": source}
                await self._versions.put("book", version, meta, orjson.dumps(book.data()))
            except Conflict:
                version = ""
                continue
            # Where another was quicker the same version is tried again: the very same book may have come to whoever
            # was, so that it must not be deleted, and a new one would leave one that was never in force.
            if await self._move(pointer, book=version):
                return version
        raise Conflict("book_conflict", "the book is being changed by others all the time; try again")

    async def keep_book(self, book: Book, source: str) -> str:
        """Keep a book without putting it in force, to try it on a share of users; returns its version.

        Raises:
            engine.errors.Conflict: `book_conflict`.
        """
        for _ in range(ATTEMPTS):
            kept = [version for version, _ in await self._versions.list("book")]
            version = book_version(book, 1 + max((int(v[1:].split("-")[0]) for v in kept), default=0))
            same = [v for v in kept if v.partition("-")[2] == version.partition("-")[2]]
            if same:
                return same[-1]
            try:
                meta = {"created_ms": self._clock(), "source": source}
                await self._versions.put("book", version, meta, orjson.dumps(book.data()))
            except Conflict:
                continue
            return version
        raise Conflict("book_conflict", "books are being kept by others all the time; try again")

    async def return_to_book(self, version: str) -> str:
        """Put an earlier book in force.

        Raises:
            engine.errors.NotFound: `unknown_version`.
        """
        if await self._versions.get("book", version) is None:
            known = ", ".join(v for v, _ in (await self._versions.list("book"))[-10:])
            raise NotFound("unknown_version", f"no book {version}; the latest are: {known or 'none'}")
        await self._move_to(book=version)
        return version

    async def publish_model(self, version: str) -> None:
        """Put a model in force, after a check that it is kept."""
        if version != PriorModel.version and await self._versions.get("model", version) is None:
            raise NotFound("unknown_version", f"no model {version}")
        await self._move_to(model=version)

    async def publish_churn(self, version: str) -> None:
        """Put a churn model in force; an empty version goes back to the prior's estimate."""
        if version and await self._versions.get("model", version) is None:
            raise NotFound("unknown_version", f"no model {version}")
        await self._move_to(churn=version)

    async def publish_offers(self, kind: str, version: str) -> None:
        """Put a catalogue or posteriors in force that are kept already; an empty version is none."""
        await self._move_to(**{kind: version})

    # -- trials ----------------------------------------------------------------------------------------

    async def trial(self) -> dict[str, Any] | None:
        """The trial under way, as it stands in the pointer."""
        found: dict[str, Any] | None = (await self._versions.world()).get("rollout")
        return found

    async def begin_trial(self, rollout: str, kind: str, candidate: str, stage: str, share: float = 0.0) -> Moved:
        """Try a version beside the one in force. The same trial, begun again, changes nothing.

        Raises:
            engine.errors.NotFound: `unknown_version`. Conflict: `trial_running`, another one has not ended.
        """
        if candidate != PriorModel.version and await self._versions.get(kind, candidate) is None:
            raise NotFound("unknown_version", f"no {kind} {candidate}")

        def begun(pointer: dict[str, Any]) -> dict[str, Any] | None:
            running = pointer.get("rollout")
            if running is not None and running["id"] != rollout:
                raise Conflict("trial_running", f"rollout {running['id']} has not ended")
            if running is not None:
                return None
            now_ms = self._clock()
            trial = {"id": rollout, "kind": kind, "candidate": candidate, "stage": stage, "share": share}
            return {**pointer, "rollout": {**trial, "since_ms": now_ms}}

        return await self._change(begun)

    async def set_trial(self, rollout: str, stage: str, share: float) -> Moved:
        """Put the trial into another stage or give it another share.

        Raises:
            engine.errors.Conflict: `trial_over`, it is not the one under way.
        """

        def changed(pointer: dict[str, Any]) -> dict[str, Any] | None:
            running = pointer.get("rollout")
            if running is None or running["id"] != rollout:
                raise Conflict("trial_over", f"rollout {rollout} is not under way")
            if (running["stage"], running["share"]) == (stage, share):
                return None
            return {**pointer, "rollout": {**running, "stage": stage, "share": share, "since_ms": self._clock()}}

        return await self._change(changed)

    async def end_trial(self, rollout: str, *, promoted: bool) -> Moved:
        """End the trial, with its candidate in force or without; one that has ended already stays as it ended."""

        def ended(pointer: dict[str, Any]) -> dict[str, Any] | None:
            running = pointer.get("rollout")
            if running is None or running["id"] != rollout:
                return None
            return {**pointer, **({running["kind"]: running["candidate"]} if promoted else {}), "rollout": None}

        return await self._change(ended)

    async def _change(self, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Moved:
        """Move the pointer to what `change` makes of it; None where it is right as it is."""
        for _ in range(ATTEMPTS):
            pointer = await self._versions.world()
            wanted = change(pointer)
            if wanted is None:
                return Moved(pointer["rev"], await self._tell_shards())
            wanted["model"] = wanted["model"] or PriorModel.version
            if await self._versions.publish(pointer["rev"], wanted):
                return Moved(pointer["rev"] + 1, await self._tell_shards())
        raise Conflict("world_conflict", "what is in force is being changed by others all the time; try again")

    # -- reading ---------------------------------------------------------------------------------------

    async def current_book(self) -> tuple[str, dict[str, Any], Any]:
        """(version, meta, data) of the book in force.

        Raises:
            engine.errors.NotFound: `no_book`.
        """
        version = (await self._versions.world())["book"]
        found = await self._versions.get("book", version) if version else None
        if found is None:
            raise NotFound("no_book", "no campaign book is published")
        return version, found[0], orjson.loads(found[1])

    async def dry_run(self, book: Book, limit: int) -> dict[str, Any]:
        """Which of the newest decisions (at most `limit` of each shard) would come out otherwise under this book.

        Raises:
            engine.errors.InvalidInput: the shards refuse the book. Unavailable: no shard answered.
        """
        if self._tells is None:
            raise Unavailable("shard_unavailable", "there are no shards to ask here")
        return await dry_run_everywhere(self._table, self._tells, book.data(), limit)

    async def _move_to(self, **changes: str) -> None:
        for _ in range(ATTEMPTS):
            if await self._move(await self._versions.world(), **changes):
                return
        raise Conflict("world_conflict", "what is in force is being changed by others all the time; try again")

    async def _move(self, pointer: dict[str, Any], **changes: str) -> bool:
        wanted = {**pointer, "model": pointer["model"] or PriorModel.version, **changes}
        if (wanted.get("rollout") or {}).get("kind") in changes:
            wanted["rollout"] = None
        if not await self._versions.publish(pointer["rev"], wanted):
            return False
        await self._tell_shards()
        return True

    async def _tell_shards(self) -> tuple[str, ...]:
        """Why each shard that cannot try the candidate cannot.

        A shard that does not hear it now reads the pointer by itself within its polling interval.
        """
        if self._tells is None:
            return ()
        owners = (await self._table.read()).owners
        one_each = {owner: partition for partition, owner in enumerate(owners) if owner >= 0}
        told = await asyncio.gather(*(self._tell(self._tells, partition) for partition in one_each.values()))
        return tuple(why for why in told if why)

    async def _tell(self, tells: Asks, partition: int) -> str | None:
        with suppress(KairosError):
            return (await tells.ask_partition(partition, "refresh", {}, timeout_s=TELL_TIMEOUT_S)).get("refused")
        return None
