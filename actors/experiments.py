"""Experiments read from the journal: assignments with their exposure, and what came of them, partition by partition."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from actors.history import CHUNK, History
from actors.stores import Position, Stores
from engine.book import compile_book, load_book
from engine.compiled import CompiledBook, CompiledCampaign
from engine.decision import Decision
from engine.exposure import exposed
from engine.inputs import IS_BOT, Inputs
from engine.record import BOT, DECISION, SIGNALS, Record
from training.attribution import GRACE_MS, Attribution
from training.experiments import Assigned, Experiments
from training.keeping import keep
from training.window import Window

Told = Callable[[float], Awaitable[None]]
SLACK_MS: Final = 5_000
"""How long what a shard has received may be on its way into the journal."""
TELL_EVERY_MS: Final = 1_000
"""How often it is told how much of the journal has been read; a day's may take minutes."""
_VARIANTS: Final = 14


def _of_bot(record: Record) -> bool:
    """Whether a record is of a visitor known by then to be a bot."""
    return bool(record[3] & BOT) if record[0] == SIGNALS else record[0] == DECISION and bool(record[7][IS_BOT])


def _outcomes_after_s(campaign: CompiledCampaign) -> float:
    """How long after its decision an outcome counts: "nothing came of it" can be said no sooner."""
    return (campaign.conversion_within_ms + GRACE_MS + SLACK_MS) / 1000


class ExperimentReader:
    """Verbs: advance, results. Reads on from where it stopped; a new one reads what is kept from its beginning."""

    def __init__(self, stores: Stores, history: History, clock: Callable[[], int]) -> None:
        self._stores, self._history, self._clock = stores, history, clock
        self._books: dict[str, CompiledBook | None] = {}
        self._experiments, self._window = Experiments(), Window()
        self._offsets: list[Position | None] = []
        self._attribution: Attribution | None = None

    async def advance(self, told: Told | None = None, tell_every_ms: int = TELL_EVERY_MS) -> int:
        """Read everything that has come; how many entries that were.

        `told` hears now and then which share is read, the first time when the reading has taken `tell_every_ms`.
        """
        if self._attribution is None:
            n = (await self._stores.table.read()).n_partitions
            self._offsets = [None] * n
            self._attribution = Attribution(n, self._books.get)
        read = 0
        now_ms = told_ms = self._clock()
        for partition in range(len(self._offsets)):
            while rows := await self._history.read(partition, self._offsets[partition], CHUNK):
                read += len(rows)
                for position, payload in rows:
                    await self._take(partition, position, orjson.loads(payload)[1:])
                    self._offsets[partition] = position
                self._experiments.learn(keep(self._attribution, self._window))
                # Others have a turn: a long journal is read beside everything else.
                await asyncio.sleep(0)
                if told is not None and (at_ms := self._clock()) - told_ms >= tell_every_ms:
                    told_ms = at_ms
                    await told(partition / len(self._offsets))
            self._attribution.advance(partition, now_ms - SLACK_MS)
        self._experiments.learn(keep(self._attribution, self._window))
        return read

    async def _take(self, partition: int, position: Position, records: list[Record | None]) -> None:
        assert self._attribution is not None
        for index, record in enumerate(records):
            if record is not None and _of_bot(record):
                self._experiments.leave_out(record[5] if record[0] == SIGNALS and len(record) > 5 else record[1])
            elif record is not None and record[0] == DECISION:
                book = await self._book(record[5][1])
                if book is not None and record[8][_VARIANTS]:
                    self._assign(record, f"d_{partition}_{position[0]}_{position[1]}_{index}", book)
        self._attribution.observe(partition, position, records)

    def _assign(self, record: Record, key: str, book: CompiledBook) -> None:
        inputs, decision = Inputs.from_list(record[7]), Decision.from_list(record[8])
        if inputs.bot or not inputs.personalise or not inputs.recordable or decision.holdout:
            return
        if inputs.supply is not None and inputs.supply.forced is not None:
            return
        for name, variant in decision.variants.items():
            seen = exposed(inputs, decision, book, record[2])
            experiment = f"{decision.campaign}.{name}"
            self._experiments.assign(Assigned(key, experiment, variant, record[1], record[2], seen))

    async def results(self) -> list[dict[str, Any]]:
        """The standing of every experiment of the book in force."""
        version = (await self._stores.versions.world())["book"]
        book = await self._book(version) if version else None
        if book is None:
            return []
        of = {e.key: (list(e.variants), campaign) for campaign in book.campaigns.values() for e in campaign.experiments}
        found = self._experiments.results({key: variants for key, (variants, _) in of.items()})
        return [{**one, "outcomesAfterS": _outcomes_after_s(of[one["experiment"]][1])} for one in found]

    async def _book(self, version: str) -> CompiledBook | None:
        if version not in self._books:
            found = await self._stores.versions.get("book", version)
            self._books[version] = None if found is None else compile_book(load_book(orjson.loads(found[1])), version)
        return self._books[version]
