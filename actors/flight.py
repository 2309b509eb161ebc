"""A batch that has been evaluated, on its way into the journal; while it is, the next one may be evaluated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from actors.call import Call
from actors.links import PARKED
from actors.operations import Later, Outcome, Reply, unavailable
from actors.partition import Sealed, raise_for
from actors.stores import AppendResult, Uncertain
from engine.errors import Fenced, KairosError

if TYPE_CHECKING:
    from actors.shard import SessionShard

log = logging.getLogger("kairos.shard")

UNWRITTEN: Final = Fenced("fenced", "the batch was not written")
"""What became of a batch that could not be evaluated, or that was evaluated after one that failed."""


class Flight:
    """One batch between evaluation and answer. Verbs: depart, land.

    At most one is under way, and the next departs when it has landed: what was evaluated after something that the
    journal did not take is not sent, nothing is answered before all that it may have read is durable.
    """

    def __init__(self, shard: SessionShard, answers: Sequence[tuple[Call, Outcome]], sealed: Sequence[Sealed]) -> None:
        self._shard, self._answers, self._sealed = shard, answers, sealed
        self._leases = shard.treasury.leases
        self._spending = self._leases.seal()
        self._told: list[Reply | Later] | None = None
        self._failed: dict[int, KairosError] = {}
        self._results: asyncio.Future[list[AppendResult]] | None = None

    @property
    def arrived(self) -> bool:
        """Whether the journal has answered, or was not asked."""
        return self._results is None or self._results.done()

    async def arrived_or(self, other: asyncio.Future[Any]) -> None:
        """Wait until the journal has answered, or something else is done."""
        if self._results is not None:
            await asyncio.wait({self._results, other}, return_when=asyncio.FIRST_COMPLETED)

    async def depart(self, failed: Mapping[int, KairosError]) -> None:
        """Send the entries, but for those of partitions that have failed meanwhile, and word the answers."""
        self._failed = {call.partition: UNWRITTEN for call, _ in self._answers if call.partition in failed}
        self._sealed = [sealed for sealed in self._sealed if sealed.partition.index not in self._failed]
        if self._sealed:
            entries = [sealed.entry for sealed in self._sealed]
            self._results = asyncio.ensure_future(self._shard.journal.append(entries))
            self._results.add_done_callback(lambda _: self._shard.wake())
        # The entries are on their way after this turn; meanwhile the answers are put into words.
        await asyncio.sleep(0)
        self._words()

    async def land(self) -> Mapping[int, KairosError]:
        """Wait for the journal, then answer; what failed, by partition."""
        for sealed, result in zip(self._sealed, await self._answered(), strict=True):
            try:
                raise_for(result)
                sealed.partition.appended(sealed)
            except KairosError as failure:
                self._failed[sealed.partition.index] = failure
                self._shard.ownership.reset(sealed.partition.index)
        self._answer()
        return self._failed

    async def _answered(self) -> Sequence[AppendResult]:
        """One result for each entry."""
        if self._results is None:
            return [Uncertain("it was not sent")] * len(self._sealed)
        try:
            return await self._results
        except Exception as failure:
            log.exception("the journal of shard %d failed otherwise than it says", self._shard.index)
            return [Uncertain(f"unexpected: {failure}")] * len(self._sealed)

    def _words(self) -> list[Reply | Later]:
        if self._told is None:
            self._told = [self._shard.evaluation.told(call, reply) for call, reply in self._answers]
        return self._told

    def _answer(self) -> None:
        self._leases.committed(self._spending, self._failed)
        for (call, reply), told in zip(self._answers, self._words(), strict=True):
            try:
                self._tell(call, reply, told)
            except Exception:
                log.exception("shard %d could not answer %s", self._shard.index, call.op)
                call.answer(unavailable("internal", "the request could not be answered"))

    def _tell(self, call: Call, reply: Outcome, told: Reply | Later) -> None:
        if reply is PARKED:
            return
        if call.partition in self._failed:
            call.answer(self._shard.evaluation.unwritten(reply, self._failed[call.partition]))
        elif isinstance(told, dict):
            call.answer(told)
        else:
            self._shard.spawn(self._shard.evaluation.finish(call, told))
