"""One training of a trainer: the champion, the lesson in a thread, the gates, and where a candidate goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from actors.priority import Pace
from actors.published_offers import PublishedOffers
from actors.runs import Run
from actors.stores import Versions
from actors.trainer_settings import TrainerSettings
from engine.book import compile_book, load_book
from engine.compiled import CompiledBook
from engine.errors import InvalidInput, NotFound
from engine.predictor import Predictor
from engine.prior import PriorModel
from engine.record import Record
from engine.schema import schema_hash
from engine.world import World
from training.admission import check_value
from training.card import ModelCard
from training.churn import ChurnPrior, churn_table
from training.fit import Model
from training.gates import Finding, Limits
from training.learner import Champion, Learned, Lesson, learn, rows_table
from training.recipes import Recipe, Target
from training.registry import KIND, Registry
from training.retake import Retaken, retake
from training.table import Table

Floats = NDArray[np.float64]
HandOver = Callable[[str, str, str], Awaitable[str]]
"""Gives a candidate to the rollouts: kind, version, why; returns the rollout's id."""
Records = Callable[[Sequence[str]], Awaitable[Mapping[str, Record]]]
"""The journal's records of some decisions; what is no longer kept is missing."""
MODELS_KEPT: Final = 50


class Ended(Exception):
    """The run was told to end."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Matured examples in time order: `x` (n, n_features); `y`, `t_ms`, `track` (a number for each) and keys of n."""

    x: Floats
    y: Floats
    t_ms: NDArray[np.int64]
    track: NDArray[np.int64]
    keys: Sequence[str]
    schema: str = field(default_factory=schema_hash)


class Hearing:
    """How far a run is, told by its thread, and whether it is to end, told to it."""

    def __init__(self) -> None:
        self.stage, self.share = "reading", 0.0
        self.why: str | None = None

    def told(self, share: float) -> None:
        """The share done. Raises Ended where the run is to end."""
        self.share = share
        if self.why is not None:
            raise Ended(self.why)

    def end(self, why: str) -> None:
        """Have it end at its next step."""
        self.why = why


class Session:
    """Verbs: champion, train. It reads the store and changes what is in force only by handing a candidate over."""

    def __init__(
        self,
        versions: Versions,
        clock: Callable[[], int],
        hand_over: HandOver | None = None,
        publish_churn: Callable[[str], Awaitable[None]] | None = None,
        records: Records | None = None,
    ) -> None:
        self._versions, self._registry, self._clock = versions, Registry(versions), clock
        self._hand_over, self._publish_churn, self._records = hand_over, publish_churn, records
        self._known: dict[Target, Champion] = {}
        self._books: dict[str, CompiledBook] = {}
        self._offers = PublishedOffers(versions)

    async def champion(self, target: Target) -> Champion:
        """Who answers now; the prior where no model of this engine's layout is in force.

        Raises InvalidInput `broken_model` or `broken_card`: what is kept of it is not whole.
        """
        prior = Champion(PriorModel.version, PriorModel()) if target == "conversion" else _churn_prior()
        pointer = await self._versions.world()
        version = str(pointer.get("model" if target == "conversion" else "churn") or prior.version)
        if version == prior.version:
            return prior
        known = self._known.get(target)
        if known is not None and known.version == version:
            return known
        kept = await self._versions.get(KIND, version)
        if kept is None:
            raise InvalidInput("broken_model", f"model {version} is in force and not kept")
        model = Model(ModelCard.from_object(kept[0]), kept[1])
        if model.card.schema_hash != schema_hash():
            # Shards answer by the prior as well until a model of the new layout is promoted.
            return prior
        found = self._known[target] = Champion(version, await asyncio.to_thread(model.predictor), model)
        return found

    async def zone(self) -> tzinfo:
        """The time zone of the book in force."""
        return (await self._current_book()).timezone

    async def train(self, run: Run, rows: Columns, settings: TrainerSettings, hearing: Hearing) -> dict[str, Any]:
        """Learn, judge, hand over; the fields with which the run ends. Raises what `training.learner.learn` does."""
        target: Target = run["target"]
        champion = await self.champion(target)
        recipe: Recipe = run["recipe"] or "retrain"
        hearing.stage = "fitting"
        table = await self._table(target, rows)
        limits = Limits().after_drift() if run["why"] == "drift" and recipe == "retrain" else Limits()
        params = dict(settings.params) or None
        lesson = Lesson(table, champion, recipe, target, settings.seed, params, limits, settings.fewest_rows)
        told = Pace(settings.processor_share).after(hearing.told)
        learned = await asyncio.to_thread(learn, lesson, told, self._clock())
        findings = learned.findings
        try:
            if target == "conversion" and self._records is not None:
                hearing.stage = "valuing"
                findings = (*findings, await self._value(learned, rows, settings.most_retaken))
        finally:
            learned.trial.close()
        card = learned.candidate.card
        fields: dict[str, Any] = {
            "findings": [finding.told() for finding in findings], "champion": champion.version, "recipe": recipe,
            "n_rows": card.n_rows, "metrics": card.metrics and card.metrics.model_dump(mode="json"),
        }  # fmt: skip
        refusal = next((finding for finding in findings if not finding.passed), None)
        if refusal is not None:
            return {**fields, "state": "refused", "reason": f"gate_{refusal.gate}", "message": refusal.sentence}
        if card.version == champion.version:
            return {**fields, "state": "refused", "reason": "nothing_new", "message": f"it is {card.version} again"}
        hearing.stage = "handing over"
        hearing.told(1.0)
        return {**fields, **await self._hand(learned.with_gates(findings), target, run)}

    async def _table(self, target: Target, rows: Columns) -> Table:
        if rows.schema != schema_hash():
            words = f"the window's rows are of feature layout {rows.schema}, the engine's is {schema_hash()}"
            raise InvalidInput("schema_changed", words)
        if target == "conversion":
            return await asyncio.to_thread(rows_table, rows.x, rows.y, rows.t_ms, "journal", rows.track)
        horizon_ms = (await self._current_book()).churn_horizon_ms
        until_ms = int(rows.t_ms[-1]) if len(rows.t_ms) else 0
        return await asyncio.to_thread(churn_table, rows.x, rows.t_ms, rows.track, horizon_ms, until_ms)

    async def _hand(self, model: Model, target: Target, run: Run) -> dict[str, Any]:
        version = await self._registry.add(model)
        # What shards will read, read back: a sum that does not match must be seen here.
        (await self._registry.load(version)).close()
        await self._forget_old()
        if target == "churn" and self._publish_churn is not None:
            await self._publish_churn(version)
            return {"state": "published", "candidate": version, "message": "in force"}
        if target == "conversion" and self._hand_over is not None:
            why = f"training {run['id']} ({run['why']})"
            rollout = await self._hand_over("model", version, why)
            return {"state": "submitted", "candidate": version, "rollout": rollout, "message": f"rollout {rollout}"}
        return {"state": "kept", "candidate": version, "message": "there is no rollout to hand it to"}

    async def _value(self, learned: Learned, rows: Columns, most: int) -> Finding:
        """The value gate, over the newest recorded decisions among the judging rows."""
        assert self._records is not None
        judged = [(rows.keys[i], float(rows.y[i])) for i in range(learned.cut, len(rows.keys))]
        judged = [(key, label) for key, label in judged if key.startswith("d_")][-most:]
        records = await self._records([key for key, _ in judged])
        taken: list[tuple[Record, World, float]] = []
        worlds: dict[tuple[str, ...], World] = {}
        for key, label in judged:
            record = records.get(key)
            world = None if record is None else await self._world_of(record, learned.trial, worlds)
            if record is not None and world is not None:
                taken.append((record, world, label))
        retaken: Retaken = await asyncio.to_thread(retake, taken)
        return check_value(retaken)

    async def _world_of(self, record: Record, model: Predictor, worlds: dict[tuple[str, ...], World]) -> World | None:
        """What a decision was taken with, but for the model; None where a part of that is no longer kept."""
        used: list[Any] = record[5]
        book, churn, posteriors = (str(used[i] or "") if len(used) > i else "" for i in (1, 4, 6))
        if (book, churn, posteriors) not in worlds:
            compiled = await self._book(book)
            if compiled is None:
                return None
            try:
                leaves = await self._registry.load(churn) if churn else None
                beliefs = await self._offers.posteriors(posteriors)
            except (LookupError, NotFound, InvalidInput):
                return None
            worlds[book, churn, posteriors] = World(compiled, model, churn=leaves, posteriors=beliefs)
        return worlds[book, churn, posteriors]

    async def _current_book(self) -> CompiledBook:
        book = await self._book(str((await self._versions.world())["book"]))
        if book is None:
            raise NotFound("no_book", "no campaign book is published")
        return book

    async def _book(self, version: str) -> CompiledBook | None:
        if version not in self._books:
            found = await self._versions.get("book", version)
            if found is None:
                return None
            self._books[version] = compile_book(load_book(orjson.loads(found[1])), version)
        return self._books[version]

    async def _forget_old(self) -> None:
        """Keep the newest models, and whatever the pointer names."""
        pointer = await self._versions.world()
        named = {pointer.get("model"), pointer.get("churn"), (pointer.get("rollout") or {}).get("candidate")}
        versions = [version for version, _ in await self._versions.list(KIND)]
        for version in versions[:-MODELS_KEPT]:
            if version not in named:
                await self._versions.delete(KIND, version)


def _churn_prior() -> Champion:
    return Champion(ChurnPrior.version, ChurnPrior())
