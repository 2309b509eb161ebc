"""One visitor walked through a book, step by step, with the code that a shard runs and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.assess import assess_signals
from engine.assumed import assumed
from engine.decide import decide
from engine.decision import Decision
from engine.dice import SeededDice
from engine.explain import explain
from engine.ids import DecisionId
from engine.inputs import Inputs, Request, read_inputs
from engine.record import (
    ENGINE_VERSION,
    Record,
    Versions,
    decision_record,
    fold,
    segments_record,
    signals_record,
)
from engine.schema import schema_hash
from engine.signals import Signal
from engine.track import Track
from engine.world import World


@dataclass(frozen=True, slots=True)
class Moment:
    """How the visitor stands after a step: the answer they would get now, and the segments that were changed by it.

    `segments` are those of every campaign, as `campaign.segment`; `explained` is there for a decision alone.
    """

    decision: Decision
    segments: list[str]
    entered: list[str]
    left: list[str]
    explained: dict[str, Any] = field(default_factory=dict)


class Walk:
    """A profile of one track. Verbs: observe, decide; both go through the records that a journal would hold."""

    def __init__(self, world: World, root: str, consent: dict[str, bool] | None = None, seed: int = 0) -> None:
        self._world, self._consent, self._seed = world, consent or {}, seed
        self._track = Track.fresh(root)
        self._n = 0

    def observe(self, signal: Signal, request: Request, context: dict[str, Any], now_ms: int) -> Moment:
        """Fold a signal in and look at the segments again; `request` is what would be asked now, and is not decided."""
        before = set(self._track.memberships)
        if self._consent.get("analytics", True):
            self._write(signals_record(self._track.id, now_ms, 0, [signal]))
            self._look_again(context, now_ms)
        inputs = self._inputs(request, context, now_ms)
        decision = decide(inputs, self._world, now_ms=now_ms, rng=SeededDice(self._seed))
        return self._moment(decision, before)

    def decide(self, request: Request, context: dict[str, Any], now_ms: int) -> Moment:
        """Decide and keep what that changes: caps, cool-downs, assignments, segments."""
        before = set(self._track.memberships)
        inputs = self._inputs(request, context, now_ms)
        seed = self._seed + self._n
        decision = decide(inputs, self._world, now_ms=now_ms, rng=SeededDice(seed))
        versions = Versions(ENGINE_VERSION, self._world.book.version, self._world.model_version, schema_hash())
        explained = explain(inputs, self._world, decision, now_ms)
        self._write(decision_record(now_ms, seed, "model", versions, None, inputs, decision))
        return self._moment(decision, before, explained)

    def _look_again(self, context: dict[str, Any], now_ms: int) -> None:
        inputs = self._inputs(Request(""), context, now_ms)
        if inputs.bot or not inputs.personalise:
            return
        memberships, self._track.precomputed = assess_signals(inputs, self._world, now_ms)
        if memberships != inputs.memberships:
            self._write(segments_record(self._track.id, now_ms, memberships))

    def _inputs(self, request: Request, context: dict[str, Any], now_ms: int) -> Inputs:
        personal = self._consent.get("personalisation", True)
        track = self._track if personal else Track.fresh(self._track.id)
        inputs = read_inputs(track, request, context, self._consent, now_ms, track.precomputed)
        # Nobody else is there to spend a budget.
        return assumed(inputs, self._world.book)

    def _write(self, record: Record) -> None:
        self._n += 1
        precomputed = self._track.precomputed
        self._track = fold(self._track, record, DecisionId(0, 1, self._n, 0)) or self._track
        self._track.precomputed = precomputed

    def _moment(self, decision: Decision, before: set[str], explained: dict[str, Any] | None = None) -> Moment:
        after = set(self._track.memberships)
        return Moment(decision, sorted(after), sorted(after - before), sorted(before - after), explained or {})
