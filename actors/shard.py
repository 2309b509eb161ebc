"""A session shard: hosts the profiles of its partitions behind one inbox and commits each batch to the journal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from random import Random
from time import perf_counter
from typing import Any, Final, TypeVar

from actors.activation import Activation
from actors.archiver import Archiver
from actors.asking import Asks
from actors.call import Call
from actors.desk import Desk
from actors.ending import ended
from actors.erasure import Erasure
from actors.evaluation import Evaluation
from actors.flight import UNWRITTEN, Flight
from actors.following import Following
from actors.history import History
from actors.housekeeping import Housekeeping
from actors.ledger import Ledger
from actors.links import Links
from actors.mending import Mending
from actors.no_book import NEEDS_BOOK
from actors.operations import Outcome, Reply, unavailable
from actors.ownership import Ownership
from actors.partition import Partition
from actors.reading import Reading
from actors.shard_settings import ShardSettings
from actors.stores import Journal, Snapshots, Table
from actors.treasury import Treasury
from actors.worlds import Worlds
from engine.errors import KairosError
from engine.money import Exchange

T = TypeVar("T")
log = logging.getLogger("kairos.shard")

MAX_BATCH: Final = 512
MAX_INBOX: Final = 20_000
GROWING: Final = frozenset({"observe", "decide", "reward", "redeem", "link", "unlink"})
"""Operations refused while the tail has no more room; what finishes or erases something is not."""


TURN_S: Final = 0.002
"""How long a batch is evaluated before it is sent, so that store and askers have something to do meanwhile."""
TURN_SHARE: Final = 2
"""But half of what waits at least: of a flood, few long entries are cheaper to keep and to recover than many."""
QUIET_EVERY: Final = 16
"""After so many batches, at the latest, none is under way, for what is done between them."""


class SessionShard:
    """The profiles of some partitions. Verbs: start, ask (or submit), stop.

    Everything that touches a profile passes the inbox. The loop takes what has arrived as one batch: activate →
    evaluate → append → reply. While the journal writes one batch its answers are put into words and the next one is
    evaluated, which waits for it before it is written itself. After a failed or uncertain append the touched
    partitions are dropped and claimed again under a new epoch.
    """

    def __init__(
        self,
        index: int,
        *,
        journal: Journal,
        snapshots: Snapshots,
        table: Table,
        worlds: Worlds,
        mesh: Asks,
        clock: Callable[[], int],
        dice: Random,
        settings: ShardSettings | None = None,
        archiver: Archiver | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.index = index
        self.journal, self.snapshots, self.table, self.worlds, self.mesh = journal, snapshots, table, worlds, mesh
        self.clock, self.dice = clock, dice
        self.settings = settings or ShardSettings()
        self.archiver = archiver
        self.history = History(journal, archiver.segments if archiver is not None else None)
        self.partitions: dict[int, Partition] = {}
        self.n_partitions = 0
        self.key = b""
        self.exchange = Exchange("EUR")
        self.counts: dict[str, int] = {"batches": 0, "calls": 0, "resets": 0, "activations": 0, "passivations": 0}
        self.counts["damaged_snapshots"] = 0
        self.incarnation = 0
        self.stopping = False
        self.links, self.erasure, self.reading = Links(self), Erasure(self), Reading(self)
        self.ownership, self.housekeeping, self.mending = Ownership(self), Housekeeping(self), Mending(self)
        self.treasury, self.following = Treasury(self, ledger), Following(self)
        self.evaluation, self._activation = Evaluation(self), Activation(self)
        self._inbox: list[Call] = []
        self._flight: Flight | None = None
        self._n_flown = 0
        self._relieved: Callable[[], None] | None = None
        self._waker: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- life ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the world, claim the partitions the table gives this shard, begin to serve.

        Raises:
            engine.errors.Unavailable: the store does not answer.
        """
        state = await self.table.read()
        self.n_partitions = state.n_partitions
        self.incarnation = await self.table.next_epoch()
        self.key = await self.table.secret("messages")
        self.desk.redemption_key = await self.table.secret("redemptions")
        self.desk.preview_key = await self.table.secret("previews")
        await self.following.refresh()
        await self.ownership.start()
        self.spawn(self._loop())
        self.spawn(self.following.run())
        self.spawn(self.housekeeping.sweep())
        self.spawn(self._tick())
        self.spawn(self.treasury.run())
        if self.archiver is not None:
            self.spawn(self.archiver.run(self.partitions.values))

    async def stop(self) -> None:
        """Answer what is in the inbox, save what is dirty, stop."""
        self.stopping = True
        self.wake()
        loop_tasks = [t for t in self._tasks if t.get_name() == "loop"]
        await asyncio.gather(*loop_tasks, return_exceptions=True)
        await ended(*self._tasks)
        self.links.stop()
        await self.treasury.close()
        await self.housekeeping.stop()

    def told(self) -> dict[str, int]:
        """What it has counted so far."""
        archived = self.archiver.counts if self.archiver is not None else {}
        return {**self.counts, **archived, **self.treasury.counts()}

    def wake(self) -> None:
        """Give the loop a turn: something has arrived, or is to be done between batches."""
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something beside the loop; an error in it is logged, never lost."""
        name = "loop" if getattr(work, "__name__", "") == "_loop" else None
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of shard %d failed", self.index, exc_info=task.exception())

    @property
    def desk(self) -> Desk:
        """What is looked up and kept for offers."""
        return self.treasury.desk

    # -- asking ----------------------------------------------------------------------------------------

    async def ask(self, op: str, payload: dict[str, Any], partition: int) -> Reply:
        """Put one request into the inbox and wait for its reply."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answer(reply: Reply) -> None:
            if not future.done():
                future.set_result(reply)

        self.submit(Call(op, payload, partition, answer))
        return await future

    @property
    def n_waiting(self) -> int:
        """Requests in the inbox."""
        return len(self._inbox)

    def when_room(self, then: Callable[[], None]) -> None:
        """Have it called once, when no more is waiting than the next batch takes."""
        self._relieved = then

    def submit(self, call: Call) -> None:
        """Put a request into the inbox; its answer comes by callback."""
        if self.stopping or len(self._inbox) >= MAX_INBOX:
            call.answer(unavailable("overloaded", "the shard's inbox is full or it is stopping"))
            return
        self._inbox.append(call)
        self.wake()

    # -- the loop --------------------------------------------------------------------------------------

    async def _loop(self) -> None:
        while True:
            if self._flight is not None and (self._flight.arrived or self._n_flown >= QUIET_EVERY):
                await self._land()
            if self._flight is None:
                self._n_flown = 0
                self._between_batches()
            if not self._inbox:
                if self.stopping and self._flight is None:
                    return
                self._waker = asyncio.get_running_loop().create_future()
                await self._waker
                continue
            calls, self._inbox = self._inbox[:MAX_BATCH], self._inbox[MAX_BATCH:]
            if self._relieved is not None and len(self._inbox) <= MAX_BATCH:
                relieved, self._relieved = self._relieved, None
                relieved()
            try:
                await self._commit(calls)
            except Exception:
                log.exception("shard %d could not evaluate a batch", self.index)
                leases = self.treasury.leases
                leases.committed(leases.seal(), {call.partition: UNWRITTEN for call in calls})
                for call in calls:
                    call.answer(unavailable("internal", "the request could not be evaluated"))
                for index in {call.partition for call in calls}:
                    self.ownership.reset(index)

    async def _land(self) -> Mapping[int, KairosError]:
        """Answer the batch that is under way, if one is; what of it failed, by partition."""
        flight, self._flight = self._flight, None
        return await flight.land() if flight is not None else {}

    async def meanwhile(self, reading: Coroutine[Any, Any, T]) -> T:
        """Wait for what the next batch needs of the store; who is in the batch under way does not wait for it."""
        if self._flight is None:
            return await reading
        task = asyncio.ensure_future(reading)
        try:
            await self._flight.arrived_or(task)
            if not task.done():
                await self._land()
        except BaseException:
            task.cancel()
            raise
        return await task

    def _between_batches(self) -> None:
        try:
            self.housekeeping.tick()
            self.treasury.note()
        except Exception:
            log.exception("the housekeeping of shard %d failed", self.index)

    async def _tick(self) -> None:
        """Turn the loop now and then when nothing arrives, for what is done between batches."""
        while True:
            await asyncio.sleep(1.0)
            self.wake()

    async def _commit(self, calls: list[Call]) -> None:
        self.counts["batches"] += 1
        here = await self._activation.bring_in([call for call in calls if self._may_serve(call)])
        flight = self._evaluated(here)
        # What it was evaluated upon must be durable before it is written, or told.
        failed = await self._land()
        self._flight, self._n_flown = flight, self._n_flown + 1
        await flight.depart(failed)

    def _evaluated(self, calls: list[Call]) -> Flight:
        """Evaluate as many as a turn takes; the others stay first in the inbox."""
        answers: list[tuple[Call, Outcome]] = []
        touched: dict[int, Partition] = {}
        now_ms, until_s, fewest = self.clock(), perf_counter() + TURN_S, len(calls) // TURN_SHARE
        for n, call in enumerate(calls):
            if n > fewest and perf_counter() >= until_s:
                self._inbox[:0] = calls[n:]
                break
            partition = touched[call.partition] = self.partitions[call.partition]
            before = len(partition.pending)
            try:
                answers.append((call, self.evaluation.evaluate(call, partition, now_ms)))
            except Exception:
                log.exception("%s failed in shard %d", call.op, self.index)
                if len(partition.pending) > before:
                    raise
                answers.append((call, unavailable("internal", "the request could not be evaluated")))
        self.counts["calls"] += len(answers)
        return Flight(self, answers, [partition.seal() for partition in touched.values() if partition.pending])

    def _may_serve(self, call: Call) -> bool:
        partition = self.partitions.get(call.partition)
        if partition is None:
            call.answer({"not_mine": True})
        elif not partition.ready:
            call.answer(unavailable("recovering", "the partition is being recovered"))
        elif call.payload.get("deadline_ms") is not None and self.clock() > call.payload["deadline_ms"]:
            call.answer(unavailable("deadline_exceeded", "the deadline passed before the request was evaluated"))
        elif self.worlds.current is None and call.op in NEEDS_BOOK:
            call.answer(unavailable("no_book", "no campaign book is published yet"))
        elif call.op in GROWING and self.archiver is not None and (full := self.archiver.full(call.partition)):
            call.answer(unavailable("archive_full", full))
        elif call.op in ("reward", "redeem", "supersede", "decision", "repeat") and "track" not in call.payload:
            # Whose decision it is stands in the journal; reading it must not hold up the batch.
            self.spawn(self.evaluation.finish(call, self.reading.of_decision(call)))
        else:
            return True
        return False
