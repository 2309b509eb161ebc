"""Dry runs of a book over the newest decisions in the journals, beside the loop of each shard, and merged."""

from __future__ import annotations

import asyncio
import heapq
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from actors.asking import Asks
from actors.operations import Later, Reply, error
from actors.stores import Position, Table
from engine.book import BookInvalid, CompiledBook, compile_book, load_book
from engine.dry_run import DryRun, Summary, merged
from engine.errors import InvalidInput, KairosError, Unavailable
from engine.ids import DecisionId
from engine.record import DECISION, Record

if TYPE_CHECKING:
    from actors.shard import SessionShard

log = logging.getLogger("kairos.shard")

MAX_DECISIONS: Final = 5_000
CHUNK: Final = 8
"""Entries read at once; under load one holds the decisions of a whole batch."""
ENTRIES_EACH: Final = 4
"""At most so many entries are read for each decision wanted: a journal of nothing but signals is given up."""
SLICE: Final = 4
"""Decisions between two pauses: about a millisecond, which is what a call that arrives meanwhile waits longer."""
PAUSE_S: Final = 0.001
TIMEOUT_S: Final = 30.0
PROPOSED: Final = "proposed"

_Found = tuple[int, DecisionId, Record]


class DryRuns:
    """The dry runs of one shard, one at a time; they read the journal and touch no profile."""

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard
        self._running = False

    def later(self, payload: dict[str, Any]) -> Later:
        """The work for one request `{"book": data, "limit": n}`, to be done beside the loop."""

        async def run() -> Reply:
            if self._running:
                return {"unavailable": {"code": "dry_run_busy", "message": "another dry run is under way"}}
            self._running = True
            try:
                return await self._run(payload["book"], min(int(payload["limit"]), MAX_DECISIONS))
            finally:
                self._running = False

        return run

    async def _run(self, data: Any, limit: int) -> Reply:
        assert self._shard.worlds.current is not None
        current = self._shard.worlds.current.without_rollout()
        try:
            book = await asyncio.to_thread(_compiled, data)
        except BookInvalid as invalid:
            return error("invalid_book", invalid.message, 400)
        # All but the book is as it is in force: what outcomes have taught, the products, the models.
        run = DryRun(current, replace(current, book=book))
        found, n_entries = await self._newest(limit)
        for n, (_, decision_id, record) in enumerate(found, 1):
            try:
                run.add(str(decision_id), record)
            except Exception:
                # A record of another engine; it must not cost the answer about all the others.
                log.warning("decision %s cannot be taken again", decision_id, exc_info=True)
                run.skip()
            if n % SLICE == 0:
                await asyncio.sleep(PAUSE_S)
        book_now, model = current.book.version, current.model_version
        return {"dry_run": {**run.summary(), "book": book_now, "model": model, "entries": n_entries}}

    async def _newest(self, limit: int) -> tuple[list[_Found], int]:
        """The newest decisions over all partitions, newest first, and how many entries were read to find them."""
        newest: list[_Found] = []
        before: dict[int, Position | None] = dict.fromkeys(self._shard.partitions)
        budget = max(limit * ENTRIES_EACH, len(before) * CHUNK)
        n_entries = 0
        while before and n_entries < budget:
            for partition in list(before):
                rows = await self._shard.journal.read_back(partition, before[partition], CHUNK)
                n_entries += len(rows)
                useful = True
                for position, payload in rows:
                    useful = _keep(newest, limit, partition, position, payload)
                await asyncio.sleep(0)
                if len(rows) < CHUNK or not useful:
                    del before[partition]
                else:
                    before[partition] = rows[-1][0]
        return sorted(newest, reverse=True), n_entries


def _keep(newest: list[_Found], limit: int, partition: int, position: Position, payload: bytes) -> bool:
    """Keep an entry's decisions among the `limit` newest; False once what comes before it cannot be among them."""
    useful = True
    for index, record in enumerate(orjson.loads(payload)[1:]):
        if record is None or record[0] != DECISION:
            continue
        found = (record[2], DecisionId(partition, *position, index), record)
        if len(newest) < limit:
            heapq.heappush(newest, found)
        else:
            useful = heapq.heappushpop(newest, found) is not found
    return useful


def _compiled(data: Any) -> CompiledBook:
    return compile_book(load_book(data), PROPOSED)


async def dry_run_everywhere(table: Table, asks: Asks, data: dict[str, Any], limit: int) -> Summary:
    """Ask every shard for a dry run of a book and merge what they say; `missing` tells which did not answer, and why.

    Raises:
        engine.errors.InvalidInput: the shards refuse the book. Unavailable: no shard answered.
    """
    owners = (await table.read()).owners
    one_each = {owner: partition for partition, owner in enumerate(owners) if owner >= 0}
    payload = {"book": data, "limit": limit}

    async def ask(partition: int) -> Reply:
        try:
            return await asks.ask_partition(partition, "dry_run", payload, timeout_s=TIMEOUT_S)
        except KairosError as failure:
            return {"unavailable": {"code": failure.code, "message": failure.message}}

    replies = await asyncio.gather(*(ask(partition) for partition in one_each.values()))
    parts = [reply["dry_run"] for reply in replies if "dry_run" in reply]
    missing = [
        {"shard": shard, **(reply.get("unavailable") or reply.get("error") or {"code": "unknown", "message": ""})}
        for shard, reply in zip(one_each, replies, strict=True)
        if "dry_run" not in reply
    ]
    if not parts:
        first = missing[0] if missing else {"code": "shard_unavailable", "message": "no shard owns a partition"}
        refused = any("error" in reply for reply in replies)
        raise (InvalidInput if refused else Unavailable)(first["code"], first["message"])
    return {
        **merged(parts),
        "book": parts[0]["book"],
        "model": parts[0]["model"],
        "entries": sum(part["entries"] for part in parts),
        "shards": len(parts),
        "missing": missing,
    }
