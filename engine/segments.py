"""Segments: who is in, who enters, who leaves; hysteresis and a minimum hold keep them from flapping.

Outside, a visitor enters when the condition holds by its enter thresholds. Inside, the condition is read by its
leave thresholds; the visitor leaves at the first evaluation at which it fails *and* at least `hold` has passed
since entering. A failure during the hold is not remembered: what counts is the value when the hold is over.
Evaluation happens when it happens (at signals and decisions), so leaving is never earlier than the hold and may be
later. A clock that went backwards keeps members in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.conditions import ClauseResult, Compiled, Facts

Memberships = Mapping[str, Sequence[int]]
"""Key of a segment (`campaign.segment`) to [since_ms]: plain lists, so that they can be written as JSON as they are."""


class Transition(NamedTuple):
    """A segment entered or left; `since_ms` is when the stay that begins or ends began."""

    segment: str
    kind: str
    at_ms: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class CompiledSegment:
    """A segment of one campaign. `refers`: its condition names other segments of the campaign."""

    name: str
    key: str
    condition: Compiled
    hold_ms: int
    priority: int
    refers: bool

    def explain(self, facts: Facts, memberships: Memberships) -> list[ClauseResult]:
        """Each clause by the thresholds in force for this visitor."""
        return self.condition.explain(facts, self.key in memberships)


def evaluate_segments(
    segments: Sequence[CompiledSegment], facts: Facts, memberships: Memberships, now_ms: int
) -> tuple[dict[str, list[int]], list[Transition]]:
    """The memberships after looking at `facts`, and what changed; the arguments stay as they are.

    `segments` are those of one campaign in evaluation order (a segment after those its condition names, which are
    read as they are after this evaluation). Memberships of other campaigns are carried over.
    """
    after = {key: list(since) for key, since in memberships.items()}
    changes: list[Transition] = []
    inside: set[str] = set()
    for segment in segments:
        seen = {**facts, "segments": inside} if segment.refers else facts
        since = after.get(segment.key)
        if since is None:
            if segment.condition.enter(seen):
                after[segment.key] = [now_ms]
                changes.append(Transition(segment.name, "enter", now_ms, now_ms))
                inside.add(segment.name)
        elif now_ms - since[0] >= segment.hold_ms and not segment.condition.stay(seen):
            del after[segment.key]
            changes.append(Transition(segment.name, "leave", now_ms, since[0]))
        else:
            inside.add(segment.name)
    return after, changes


def members(segments: Iterable[CompiledSegment], memberships: Memberships) -> set[str]:
    """Names of the campaign's segments the visitor is in: the fact `segments`."""
    return {segment.name for segment in segments if segment.key in memberships}


class Ranked(NamedTuple):
    """A segment a visitor is in, with what decides its rank."""

    name: str
    priority: int
    score: float


def order_segments(entries: Iterable[Ranked]) -> list[str]:
    """Names by rank: the segment's own priority, then the score by its campaign's weights, then the name.

    Higher comes first. Works over the segments of one visitor in several campaigns, and over visitors.
    """
    return [entry.name for entry in sorted(entries, key=lambda e: (-e.priority, -e.score, e.name))]
