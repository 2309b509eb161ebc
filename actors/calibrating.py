"""Recorded sessions for the thresholds of a segment: how near each came to entering, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import orjson

from actors.history import CHUNK, History
from actors.stores import Stores
from engine.assess import read_visitor, stage_and_score, update_segments
from engine.compiled import CompiledBook, CompiledCampaign
from engine.condition_tests import Facts
from engine.decision import Decision
from engine.errors import NotFound
from engine.exposure import Recorded
from engine.features import INDEX
from engine.findings import nearest
from engine.inputs import Inputs
from engine.record import DECISION, Record
from engine.segments import CompiledSegment
from engine.world import World
from training.attribution import Attribution
from training.keeping import keep
from training.window import Window

_AGE: Final = INDEX["session_age_s"]
_OPS: Final = {"above": 1.0, "below": -1.0}


@dataclass(slots=True)
class Tunable:
    """One numeric clause: its place, feature and threshold as the book has it; `sign` is −1 for `below`.

    `scores` are by session: the best that any of its decisions came to, in the direction of the clause.
    """

    path: str
    feature: str
    op: str
    threshold: float
    sign: float
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Sessions:
    """Every session with a decision of the campaign, the clauses of the segment, and which sessions converted."""

    clauses: list[Tunable]
    converted: dict[str, bool] = field(default_factory=dict)
    n_waiting: int = 0
    """Sessions whose window is not over yet: what comes of them is not known."""


def find_segment(book: CompiledBook, name: str) -> tuple[CompiledCampaign, CompiledSegment]:
    """A segment as `name` or `campaign.name`. Raises NotFound `unknown_segment`."""
    known = {s.key: (campaign, s) for campaign in book.campaigns.values() for s in campaign.segments}
    found = [key for key in known if key == name or key.partition(".")[2] == name]
    if len(found) != 1:
        near = nearest(name, [*known, *(key.partition(".")[2] for key in known)])
        hint = f"; did you mean {near}?" if near and not found else ""
        several = f"; say which: {', '.join(found)}" if found else f"; the book has {', '.join(sorted(known))}"
        raise NotFound("unknown_segment", f"no segment {name}{hint}" if hint else f"no single segment {name}{several}")
    return known[found[0]]


async def recorded_sessions(
    stores: Stores, history: History, book: CompiledBook, name: str, clock: Callable[[], int]
) -> Sessions:
    """Read the journal: the facts of every decision as recorded, under the segment as this book has it."""
    campaign, segment = find_segment(book, name)
    n_partitions = (await stores.table.read()).n_partitions
    window = Window()

    def calibrated(_: str) -> CompiledBook:
        return book

    attribution = Attribution(n_partitions, calibrated)
    sessions, of = Sessions(_clauses(segment)), dict[str, str]()
    for partition in range(n_partitions):
        after = None
        while rows := await history.read(partition, after, CHUNK):
            for position, payload in rows:
                records = orjson.loads(payload)[1:]
                for index, record in enumerate(records):
                    if record is not None and record[0] == DECISION and record[8][0] == campaign.name:
                        key = f"d_{partition}_{position[0]}_{position[1]}_{index}"
                        _take(sessions, of, key, record, book, campaign, segment)
                attribution.observe(partition, position, records)
                after = position
            keep(attribution, window)
    for partition in range(n_partitions):
        attribution.advance(partition, clock())
    keep(attribution, window)
    for key, session in of.items():
        example = window.get(key)
        if example is not None and example.matured:
            sessions.converted[session] = sessions.converted.get(session, False) or bool(example.label)
    sessions.n_waiting = len(set(of.values()) - sessions.converted.keys())
    return sessions


def _take(
    sessions: Sessions, of: dict[str, str], key: str, record: Record, book: CompiledBook, campaign: CompiledCampaign,
    segment: CompiledSegment,
) -> None:  # fmt: skip
    inputs, decision = Inputs.from_list(record[7]), Decision.from_list(record[8])
    if inputs.bot or not inputs.personalise or not inputs.train:
        return
    age_ms = int(inputs.features[_AGE] * 1000)
    session = of[key] = f"{record[1]} {(record[2] - age_ms) // 60_000}"
    model = None if decision.conversion is None else Recorded(decision.conversion)
    reading = read_visitor(inputs, World(book, model))
    found = stage_and_score(reading, inputs, campaign)
    update_segments(reading, campaign, found, inputs.memberships, record[2])
    for clause in sessions.clauses:
        score = _score(segment, clause, reading.facts)
        clause.scores[session] = max(clause.scores.get(session, -math.inf), score)


def _clauses(segment: CompiledSegment) -> list[Tunable]:
    told = segment.explain({}, {})
    return [Tunable(c.path, c.feature, c.op, float(c.threshold), _OPS[c.op]) for c in told if c.op in _OPS and c.wanted]


def _score(segment: CompiledSegment, clause: Tunable, facts: Facts) -> float:
    """How far this clause lets in: ±∞ where the rest of the condition has decided already."""
    value = facts.get(clause.feature)
    if not segment.condition.enter({**facts, clause.feature: clause.sign * math.inf}):
        return -math.inf
    if segment.condition.enter({**facts, clause.feature: -clause.sign * math.inf}):
        return math.inf
    if not isinstance(value, int | float) or math.isnan(value):
        return -math.inf
    return clause.sign * float(value)
