"""Journal records: facts about one track each, and the fold that applies them.

A record is a list `[kind, track id, received_ms, …]`; an entry of the journal is `[format, record, …]`.
Effects that depended on a model or a book (segments entered, offers served) are recorded as they came out,
so that a rebuild needs neither.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from engine.decision import Decision
from engine.ids import USER, DecisionId, message_hash
from engine.inputs import SUPPLY, Inputs
from engine.offer_times import MAX_TIMES
from engine.signals import Signal
from engine.stubs import NO_STUBS, Stubs
from engine.supply import CHARGES
from engine.track import MAX_CLAIMS, Track
from engine.world import CHALLENGER, World

FORMAT: Final = 1
ENGINE_VERSION: Final = "3"
"""Raised when `decide` changes what it answers for the same inputs."""

SIGNALS, SEGMENTS, DECISION, REWARD, SUPERSEDED = "s", "g", "d", "r", "x"
LINK_INTENT, ADOPTED, MEMBER, LINK_DONE, ERASED, CLAIM = "li", "ta", "m", "ld", "e", "lc"
VISIT, FORGOTTEN = "v", "f"

BOT, BACKFILL, NO_TRAINING, ROBOTIC = 1, 2, 4, 8
"""Flags of a signals record. ROBOTIC beside BOT: by behaviour, which a scroll that comes late may still acquit."""

Record = list[Any]
_FIRST: Final = re.compile(rb'\[\d+,\["([a-z]{1,2})","([^"\\]*)",(\d+)[,\]]')
_ANOTHER: Final = re.compile(rb',\["[a-z]{1,2}","')


class Head(NamedTuple):
    """How a record begins."""

    kind: str
    track: str
    received_ms: int


def only_head(payload: bytes) -> Head | None:
    """The head of the one record in an entry, read off its bytes: taking it apart costs five times as much.

    None where there may be more than one, or what looks like one stands inside it.
    """
    first = _FIRST.match(payload)
    if first is None or _ANOTHER.search(payload, first.end()) is not None:
        return None
    kind, track, received_ms = first.groups()
    return Head(kind.decode(), track.decode(), int(received_ms))


def signals_record(
    track_id: str, received_ms: int, flags: int, signals: list[Signal], root: str | None = None
) -> Record:
    """Signals that took effect on one track; `root` names the profile where that is another, for who reads on."""
    record = [SIGNALS, track_id, received_ms, flags, [s.to_list() for s in signals]]
    return record if root is None or root == track_id else [*record, root]


def segments_record(
    root: str, received_ms: int, memberships: dict[str, list[int]], before: dict[str, list[int]] | None = None,
    assigned: dict[str, list[Any]] | None = None,
) -> Record:  # fmt: skip
    """The segments of a profile after signals changed them.

    `before` and `assigned` (holdouts and variants) are for who reads on, to tell what changed and with whom.
    """
    record = [SEGMENTS, root, received_ms, memberships]
    if before is None:
        return record
    return [*record, before, assigned] if assigned else [*record, before]


def visit_record(
    root: str,
    received_ms: int,
    features: list[float],
    context: dict[str, Any],
    km: float,
    versions: list[Any],
    goal: tuple[str, str, int],
) -> Record:
    """What was known of a visitor for whom nothing had been decided for a while, to learn from what came of it.

    `km` is that to the nearest geofence, `goal` the campaign, the kind of signal that is its conversion, and within
    how many ms.
    """
    return [VISIT, root, received_ms, 0, features, context, km, versions, list(goal)]


def forgotten_mark(key: bytes, track_id: str) -> int:
    """The keyed hash by which a track is told to have been erased."""
    return message_hash(key, f"forgotten {track_id}")


def forgotten_record(received_ms: int, mark: int) -> Record:
    """A track was erased, told by its keyed hash alone: it stays, for whoever has read of the track before."""
    return [FORGOTTEN, "", received_ms, mark]


@dataclass(slots=True)
class Versions:
    """What was used: engine, campaign book, model, feature schema; the churn model, if there is one.

    `trial` is [rollout, kind, stage, share, the other arm's version], where the visitor took part in one.
    """

    engine: str
    book: str
    model: str
    schema: str
    churn: str = ""
    trial: list[Any] | None = None
    posteriors: str = ""

    def to_list(self) -> list[Any]:
        """The journal's form, which ends with the schema where nothing more is to be said."""
        named: list[Any] = [self.engine, self.book, self.model, self.schema]
        if self.posteriors:
            return [*named, self.churn, self.trial, self.posteriors]
        return named if not self.churn and self.trial is None else [*named, self.churn, self.trial]


def versions_used(world: World, decision: Decision, schema: str) -> Versions:
    """What a decision was taken with in this world, by the visitor's arm."""
    trial, told = world.rollout, None
    used = world.side if decision.arm == CHALLENGER and world.side is not None else world
    if trial is not None and decision.trial is not None:
        champion = world.book.version if trial.kind == "book" else world.model_version
        other = champion if used is world.side else trial.version
        told = [trial.id, trial.kind, trial.stage, trial.share, other]
    return Versions(
        ENGINE_VERSION, used.book.version, used.model_version, schema, world.churn_version, told,
        world.posteriors_version,
    )  # fmt: skip


def decision_record(
    now_ms: int,
    seed: int,
    rung: str,
    versions: Versions,
    request: int | None,
    inputs: Inputs,
    decision: Decision,
    took_us: int = 0,
) -> Record:
    """A decision with everything needed to explain and to replay it; `request` is the hash of its requestId.

    `took_us`, how long it took, is no part of what a replay compares.
    """
    return [
        DECISION, inputs.root, now_ms, seed, rung, versions.to_list(), request, inputs.to_list(), decision.to_list(),
        took_us,
    ]  # fmt: skip


def fold(track: Track | None, record: Record, decision_id: DecisionId) -> Track | None:
    """The track after one record; None when nothing is left of it.

    `decision_id` is the record's own place in the journal. Applying the records of a track in the order of
    the journal to its snapshot rebuilds it bit for bit.
    """
    kind, track_id, received_ms = record[0], record[1], record[2]
    if kind == ERASED:
        return None
    if kind == ADOPTED:
        return _adopt(track, record)
    if track is None:
        track = Track.fresh(track_id)
    track.touched_ms = max(track.touched_ms, received_ms)
    if kind == SIGNALS:
        track.bot |= record[3] & (BOT | ROBOTIC) == BOT
        for row in record[4]:
            track.observe(Signal.from_list(row), received_ms)
    elif kind == SEGMENTS:
        track.memberships = {name: list(since) for name, since in record[3].items()}
    elif kind == DECISION:
        _decided(track, record, decision_id)
    elif kind == VISIT:
        track.looked_ms = received_ms
    elif kind == REWARD:
        track.decisions.reward(*record[3:6])
    elif kind == SUPERSEDED:
        _overtake(track, record[3])
    elif kind == LINK_INTENT:
        track.pending_to, track.generation = record[3], record[4]
    elif kind == MEMBER:
        if record[5]:
            track.members[record[3]] = record[4]
        else:
            track.members.pop(record[3], None)
    elif kind == CLAIM:
        track.claims = claimed(track.claims, record[3])
    elif kind == LINK_DONE:
        track = Track.fresh(track_id)
        track.moved_to, track.generation, track.touched_ms = record[3], record[4], received_ms
    return track


def _adopt(track: Track | None, record: Record) -> Track:
    _, track_id, received_ms, root, generation, snapshot = record
    if snapshot is not None:
        track = Track.restore(snapshot)
    elif track is None:
        track = Track.fresh(track_id)
    track.root, track.generation = root, generation
    track.pending_to = track.moved_to = None
    if root != track_id:
        track.members = {}
        if root.startswith(USER):
            track.claims = claimed(track.claims, claim_of(root))
    track.touched_ms = max(track.touched_ms, received_ms)
    return track


def claim_of(user: str) -> int:
    """What a device remembers of a user it was said to be of: 48 bits of a hash, enough to count them by."""
    return int.from_bytes(blake2b(user.encode(), digest_size=6).digest(), "big")


def claimed(claims: list[int], claim: int) -> list[int]:
    """The claims with one more, in an order that does not depend on that of their coming."""
    return claims if claim in claims or len(claims) >= MAX_CLAIMS else sorted([*claims, claim])


def _decided(track: Track, record: Record, decision_id: DecisionId) -> None:
    now_ms, request = record[2], record[6]
    decision = record[8]
    track.looked_ms = now_ms
    items, served = decision[1], decision[20]
    if decision[18] is not None:
        track.memberships = {name: list(since) for name, since in decision[18].items()}
    for name, assigned in decision[19].items():
        track.assignments.setdefault(name, list(assigned))
    for offer in served:
        times = track.served.setdefault(offer, array("q"))
        times.append(now_ms)
        del times[:-MAX_TIMES]
    supply = record[7][SUPPLY] if len(record[7]) > SUPPLY else None
    if track.decisions is NO_STUBS:
        track.decisions = Stubs()
    track.decisions.add(
        decision_id, now_ms, [i[0] for i in items], served,
        page_view=record[7][13][4], request=request, charges=None if supply is None else supply[CHARGES],
    )  # fmt: skip


def _overtake(track: Track, key: str) -> None:
    stub = track.decisions.overtake(key)
    if stub is None:
        return
    for offer in stub.served:
        times = track.served.get(offer, array("q"))
        if stub.t_ms in times:
            times.remove(stub.t_ms)
        if not times:
            track.served.pop(offer, None)
