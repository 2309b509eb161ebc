"""What a shard does for each request: read the tracks, write records, reply. Synchronous, so that a batch is atomic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from time import perf_counter_ns
from typing import Any, Final

from actors.decided import Decided
from actors.desk import Desk
from actors.partition import Partition
from engine.arms import world_at_signals
from engine.assess import assess_signals
from engine.decide import decide
from engine.decision import Decision
from engine.dice import SeededDice
from engine.errors import InvalidInput
from engine.geo import nearest_geofence
from engine.ids import message_hash, profile_id
from engine.inputs import Inputs, Request, read_inputs
from engine.money import Exchange
from engine.profile import view
from engine.record import (
    BACKFILL,
    BOT,
    ENGINE_VERSION,
    MEMBER,
    NO_TRAINING,
    REWARD,
    ROBOTIC,
    SUPERSEDED,
    decision_record,
    segments_record,
    signals_record,
    versions_used,
    visit_record,
)
from engine.schema import schema_hash
from engine.signals import Signal
from engine.stubs import LIVE
from engine.track import Track
from engine.world import World

Reply = dict[str, Any]
Later = Callable[[], Awaitable[Reply]]
"""What remains to be done, outside the batch, once it is durable."""
MAX_REWARD_TYPES: Final = 16
HEARD: Final = frozenset({"offer_viewed", "offer_redeemed"})
"""Kinds of signal that may settle what an offer took of a budget."""
SCHEMA: Final = schema_hash()


@dataclass(slots=True)
class Scene:
    """What one operation works with: its partition, the world in force, the moment, the dice, the secret key."""

    partition: Partition
    world: World
    now_ms: int
    dice: Random
    key: bytes
    exchange: Exchange
    desk: Desk


@dataclass(slots=True)
class Whereabouts:
    """The profile a request is about: its root, the tracks, and the one track the request named."""

    root: str
    track_id: str
    tracks: list[Track]

    def view(self) -> Track:
        return view(self.root, self.tracks)


def error(code: str, message: str, status: int) -> Reply:
    """A reply that says what was wrong."""
    return {"error": {"code": code, "message": message, "status": status}}


def unavailable(code: str, message: str) -> Reply:
    """A reply that says it may work in a moment."""
    return {"unavailable": {"code": code, "message": message}}


def locate(partition: Partition, track_id: str) -> Whereabouts | Reply:
    """The profile of a track that lives here, or where to ask instead."""
    track = partition.live.get(track_id)
    if track is None and not partition.is_home(track_id):
        return {"moved": track_id}
    if track is not None and track.moved_to is not None:
        return {"moved": track.moved_to}
    root = track_id if track is None else track.root
    return Whereabouts(root, track_id, partition.profile_tracks(root))


def observe(scene: Scene, payload: dict[str, Any]) -> Reply:
    """Signals of one track: each takes effect once; segments are looked at again."""
    found = locate(scene.partition, payload["track"])
    if isinstance(found, dict):
        return found
    signals = [Signal.from_list(row) for row in payload["signals"]]
    return {"results": take_signals(scene, found, signals, payload, visit=True)}


def take_signals(
    scene: Scene, found: Whereabouts, signals: list[Signal], payload: dict[str, Any], *, visit: bool = False
) -> list[str]:
    """Journal the new ones among the signals; one verdict each: accepted or duplicate.

    `visit`: nothing is decided with them, so that they may be a visit to learn from.
    """
    received_ms, context, consent = scene.now_ms, payload.get("context") or {}, payload.get("consent") or {}
    if not consent.get("analytics", True):
        # Acknowledged, and by the visitor's own choice not kept.
        return ["accepted"] * len(signals)
    track = scene.partition.live.get(found.track_id)
    results: list[str] = []
    new: list[Signal] = []
    messages: set[int] = set()
    for signal in signals:
        known = signal.message in messages or (track is not None and track.is_duplicate(signal.message, received_ms))
        results.append("duplicate" if known else "accepted")
        if not known:
            messages.add(signal.message)
            converted = scene.exchange.in_book_currency(signal)
            new.append(scene.desk.hear(converted) if signal.kind in HEARD else converted)
    if not new:
        return results
    backfill = bool(payload.get("backfill"))
    # By its agent, or by how it has behaved so far: what a bot sends is marked, so that it counts nowhere.
    robotic = track is not None and track.is_bot
    flags = (
        (BOT if context.get("bot") else BOT | ROBOTIC if robotic else 0)
        | (BACKFILL if backfill else 0)
        | (0 if consent.get("training", True) else NO_TRAINING)
    )
    scene.partition.write(signals_record(found.track_id, received_ms, flags, new, found.root))
    found.tracks = scene.partition.profile_tracks(found.root)
    if not backfill and not context.get("bot") and consent.get("personalisation", True):
        inputs = _look_again(scene, found, context, consent)
        if visit and inputs is not None:
            _note_visit(scene, inputs)
    return results


def _look_again(scene: Scene, found: Whereabouts, context: dict[str, Any], consent: dict[str, bool]) -> Inputs | None:
    """Segments and the conversion probability after signals; returns what was read, None for a bot's."""
    inputs = read_inputs(found.view(), Request(""), context, consent, scene.now_ms)
    if inputs.bot:
        # What it was in, it entered before it was known for what it is.
        _note_segments(scene, inputs, {})
        return None
    world = scene.world if scene.world.rollout is None else world_at_signals(inputs, scene.world)
    memberships, conversion = assess_signals(inputs, world, scene.now_ms)
    _note_segments(scene, inputs, memberships)
    root_track = scene.partition.live.get(found.root)
    if root_track is not None:
        root_track.precomputed = conversion
    return inputs


def _note_segments(scene: Scene, inputs: Inputs, memberships: dict[str, list[int]]) -> None:
    """Record the segments that a visitor is in now, where they have changed."""
    if memberships != inputs.memberships:
        before, assigned = inputs.memberships, inputs.assignments
        scene.partition.write(segments_record(inputs.root, scene.now_ms, memberships, before, assigned))


def _note_visit(scene: Scene, inputs: Inputs) -> None:
    """Record the row of a visitor for whom nothing was decided, at most once in the window of a conversion."""
    goal, track = scene.world.goal, scene.partition.live.get(inputs.root)
    if goal is None or track is None or not inputs.train or scene.now_ms - track.looked_ms < goal[2]:
        return
    book, context = scene.world.book, inputs.context
    _, km = nearest_geofence(book.geofences, context.get("lat"), context.get("lon"))
    versions = [ENGINE_VERSION, book.version, scene.world.model_version, SCHEMA]
    scene.partition.write(visit_record(inputs.root, scene.now_ms, inputs.features, context, km, versions, goal))


Outcome = Reply | Decided | Later
"""What a request has come to when its batch is written: an answer, a decision, or what is left to do."""


def request_hash(scene: Scene, request_id: str) -> int:
    """Request ids are compared by keyed hash, as message ids are."""
    return message_hash(scene.key, "request\x00" + request_id)


def repeated_decision(scene: Scene, payload: dict[str, Any]) -> str | None:
    """The decision already taken for this requestId, if there is one."""
    if not payload.get("request_id") or payload.get("anew"):
        return None
    found = locate(scene.partition, payload["track"])
    if isinstance(found, dict):
        return None
    request = request_hash(scene, payload["request_id"])
    return next((known for t in found.tracks if (known := t.decisions.of_request(request)) is not None), None)


def decide_for(scene: Scene, payload: dict[str, Any]) -> Decided | Reply:
    """Apply the request's signals, decide, journal the decision with its inputs."""
    found = locate(scene.partition, payload["track"])
    if isinstance(found, dict):
        return found
    book = scene.world.book
    listed = book.by_placement.get(payload["placement"])
    if listed is None:
        known = ", ".join(sorted(book.placements)) or "none"
        return error("unknown_placement", f"no campaign lists this placement; the book has: {known}", 404)
    campaign = payload.get("campaign")
    if payload.get("qa") is not None or payload.get("preview") is not None:
        listed = book.staged_by_placement[payload["placement"]]
    if campaign is not None and all(c.name != campaign for c in listed):
        return error("unknown_campaign", "no campaign of that name lists this placement", 404)
    verdicts = None
    if payload.get("signals") or payload.get("signal_rejects"):
        signals = [Signal.from_list(row) for row in payload.get("signals") or ()]
        results = take_signals(scene, found, signals, payload) if signals else []
        verdicts = {
            "accepted": results.count("accepted"),
            "duplicates": results.count("duplicate"),
            "rejected": payload.get("signal_rejects") or [],
        }
    try:
        inputs = inputs_for(scene, found, payload)
    except InvalidInput as refused:
        return error(refused.code, refused.message, 400)
    seed = scene.dice.getrandbits(53)
    began_ns = perf_counter_ns()
    decision = decide(inputs, scene.world, now_ms=scene.now_ms, rng=SeededDice(seed))
    took_us = (perf_counter_ns() - began_ns) // 1000
    supply = inputs.supply
    if supply is not None and supply.budgets:
        scene.desk.charge(scene.world, decision, supply, scene.partition, inputs.root, scene.now_ms)
    versions = versions_used(scene.world, decision, SCHEMA)
    request = request_hash(scene, payload["request_id"]) if payload.get("request_id") else None
    record = decision_record(scene.now_ms, seed, "model", versions, request, inputs, decision, took_us)
    decision_id = str(scene.partition.write(record))
    if decision.conversion is not None and decision.rung == "model":
        scene.partition.live[found.root].precomputed = decision.conversion
    return Decided(inputs, seed, decision, decision_id, scene.world, scene.now_ms, verdicts)


def inputs_for(scene: Scene, found: Whereabouts, payload: dict[str, Any]) -> Inputs:
    """Read the profile for a request; without consent to personalise, nothing of it is read."""
    consent = payload.get("consent") or {}
    request = Request(
        payload["placement"], payload.get("campaign"), payload.get("base") or [],
        payload.get("limit") or 1, payload.get("page_view_id"), payload.get("source"),
    )  # fmt: skip
    personal = consent.get("personalisation", True)
    track = found.view() if personal else Track.fresh(found.root)
    root_track = scene.partition.live.get(found.root)
    last = root_track.precomputed if root_track is not None and personal else None
    book, side = scene.world.book, scene.world.side
    n_times = max(book.needs.n_times, side.book.needs.n_times if side is not None else 0)
    inputs = read_inputs(track, request, payload.get("context") or {}, consent, scene.now_ms, last, n_times)
    inputs.supply = scene.desk.supply(scene.world, track, scene.partition, payload, scene.now_ms)
    if inputs.supply is not None and inputs.supply.forced is not None:
        # It teaches nothing, and takes part in nothing.
        inputs.train = False
    return inputs


def score_for(scene: Scene, payload: dict[str, Any]) -> Reply:
    """The score shared with Tier 1; nothing is recorded."""
    found = locate(scene.partition, payload["track"])
    if isinstance(found, dict):
        return found
    book = scene.world.book
    placement = payload.get("placement") or next(iter(sorted(book.placements)), "")
    inputs = inputs_for(scene, found, {**payload, "placement": placement})
    if placement in book.placements:
        decision = decide(inputs, scene.world, now_ms=scene.now_ms, rng=SeededDice(0))
    else:
        decision = Decision(model=scene.world.model_version)
    body = decision.response(found.root, placement, None)
    return {
        "profileId": body["profileId"], "conversion": decision.conversion, "churn": decision.churn,
        "score": body["score"], "model": body["model"],
    }  # fmt: skip


def reward(scene: Scene, payload: dict[str, Any]) -> Reply:
    """A reward for a decision, keyed by (decision, type): the same again is repeated, another value a conflict."""
    track_id, decision_id = payload["track"], payload["decision_id"]
    track = scene.partition.live.get(track_id)
    if track is not None and track.moved_to is not None:
        return {"forward": track.moved_to}
    stub = None if track is None else track.decisions.get(decision_id)
    if stub is None:
        return error("expired", "the decision is beyond its retention", 410)
    kind, value, rewards = payload["type"], payload["value"], stub.rewards
    if kind in rewards:
        if rewards[kind] == value:
            return {"status": "repeated"}
        return error("reward_conflict", f"a reward of type {kind} with another value is recorded", 409)
    if len(rewards) >= MAX_REWARD_TYPES:
        return error("too_many_rewards", f"a decision takes at most {MAX_REWARD_TYPES} types of reward", 400)
    scene.partition.write([REWARD, track_id, scene.now_ms, decision_id, kind, value])
    return {"status": "recorded"}


def supersede(scene: Scene, payload: dict[str, Any]) -> Reply:
    """The ingress had answered before this decision reached it: it counts for nothing."""
    track_id = payload["track"]
    track = scene.partition.live.get(track_id)
    if track is not None and track.moved_to is not None:
        return {"forward": track.moved_to}
    stub = track.decisions.get(payload["decision_id"]) if track is not None else None
    if stub is not None:
        record = [SUPERSEDED, track_id, scene.now_ms, payload["decision_id"]]
        back = []
        if stub.state == LIVE:
            back = scene.desk.give_back(scene.partition, stub, scene.now_ms, payload["decision_id"])
        scene.partition.write([*record, back] if back else record)
    return {"status": "superseded"}


def member_record(root: str, now_ms: int, member: str, generation: int, present: bool) -> list[Any]:
    """A profile gains or loses a track."""
    return [MEMBER, root, now_ms, member, generation, present]


def profile_identity(root: str, tracks: list[Track]) -> dict[str, Any]:
    """Who a profile is: its id and the identities of its tracks."""
    return {"profileId": profile_id(root), "root": root, "identities": sorted({t.id for t in tracks})}
