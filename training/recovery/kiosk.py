"""The engine in one process, without a store: signals observed and decisions taken as in a shard, and recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.assess import assess_signals
from engine.decide import decide
from engine.decision import Decision
from engine.dice import SeededDice
from engine.events import Event, parse_event
from engine.ids import DecisionId, anon_track, user_track
from engine.inputs import Request, read_inputs
from engine.profile import view
from engine.record import (
    ADOPTED,
    BOT,
    NO_TRAINING,
    Record,
    decision_record,
    fold,
    segments_record,
    signals_record,
    versions_used,
)
from engine.schema import schema_hash
from engine.signals import Signal
from engine.track import Track
from engine.world import World

KEY: Final = b"simulation"
FLUSH_MS: Final = 10_000
"""A browser sends what has gathered at least this often, and before it asks."""

ReadContext = Callable[[Mapping[str, Any], int], dict[str, Any]]
"""Normalises a raw context at a time; that of `serving` where the whole of Kairos is there."""
Told = Callable[[Record, DecisionId], None]
"""Is told every record with its place, as a reader of the journal would be."""


class Kiosk:
    """Verbs: observe, decide. `world` is what is in force and may be changed at any time."""

    def __init__(self, world: World, read_context: ReadContext, told: Told | None, seed: int = 0) -> None:
        self.world = world
        self._read_context, self._told = read_context, told
        self._seeds = SeededDice(seed)
        self._tracks: dict[str, Track] = {}
        self._adopted: dict[str, list[str]] = {}
        self._root: dict[str, str] = {}
        self._waiting: dict[str, list[tuple[Event, int]]] = {}
        self._due: deque[tuple[int, str]] = deque()
        self._n = 0
        self._schema = schema_hash()

    def observe(self, event: dict[str, Any], now_ms: int) -> None:
        """Take one event of the Segment spec; it takes effect with the others that wait for the same flush."""
        self.pass_time(now_ms)
        device = str(event["anonymousId"])
        parsed = parse_event(event, received_ms=now_ms, message_key=KEY)
        if parsed.type == "page":
            # What is left of a page goes out when the page is left.
            self._flush(device, now_ms)
        if device not in self._waiting:
            self._waiting[device] = []
            self._due.append((now_ms + FLUSH_MS, device))
        self._waiting[device].append((parsed, now_ms))
        if parsed.link is not None:
            self._flush(device, now_ms)

    def decide(self, request: dict[str, Any], now_ms: int) -> tuple[str, Decision]:
        """Answer a `/v1/decide` body; the decision with its id."""
        self.pass_time(now_ms)
        self._flush(str(request["anonymousId"]), now_ms)
        root = self._root_of(request.get("userId"), str(request["anonymousId"]))
        context = self._read_context(request["context"], now_ms)
        consent = _consent(request["context"])
        wanted = Request(request["placement"], page_view=request.get("pageViewId"))
        track = self._view(root) if consent["personalisation"] else Track.fresh(root)
        inputs = read_inputs(track, wanted, context, consent, now_ms, track.precomputed)
        seed = int(self._seeds.random() * 2**53)
        decision = decide(inputs, self.world, now_ms=now_ms, rng=SeededDice(seed))
        versions = versions_used(self.world, decision, self._schema)
        at = self._write(decision_record(now_ms, seed, "model", versions, None, inputs, decision))
        return str(at), decision

    def pass_time(self, now_ms: int) -> None:
        """Send what browsers have held back for long enough."""
        while self._due and self._due[0][0] <= now_ms:
            due_ms, device = self._due.popleft()
            if device in self._waiting and self._waiting[device][0][1] + FLUSH_MS <= due_ms:
                self._flush(device, due_ms)

    def _flush(self, device: str, now_ms: int) -> None:
        by_track: dict[str, list[Signal]] = {}
        last: Event | None = None
        for event, _ in self._waiting.pop(device, ()):
            if event.link is not None and event.user_id is not None:
                self._link(anon_track(event.link), user_track(event.user_id), now_ms)
            by_track.setdefault(event.track, []).append(event.signal)
            last = event
        if last is None:
            return
        context, consent = self._read_context(last.context, now_ms), _consent(last.context)
        flags = (BOT if context["bot"] else 0) | (0 if consent["training"] else NO_TRAINING)
        for track_id, signals in by_track.items():
            root = self._root_of(last.user_id, last.anonymous_id)
            self._write(signals_record(track_id, now_ms, flags, signals, root))
        if context["bot"] or not consent["personalisation"]:
            return
        root = self._root_of(last.user_id, last.anonymous_id)
        track = self._view(root)
        inputs = read_inputs(track, Request(""), context, consent, now_ms)
        memberships, conversion = assess_signals(inputs, self.world, now_ms)
        if memberships != inputs.memberships:
            self._write(segments_record(root, now_ms, memberships))
        if root in self._tracks:
            self._tracks[root].precomputed = conversion

    def _link(self, anonymous: str, user: str, now_ms: int) -> None:
        # The laws of linking are the shard's; here every shopper is one person with devices of their own.
        if anonymous not in self._root:
            self._root[anonymous] = user
            self._adopted.setdefault(user, []).append(anonymous)
            self._write([ADOPTED, anonymous, now_ms, user, 1, None])

    def _root_of(self, user_id: str | None, anonymous_id: str | None) -> str:
        if user_id is not None:
            return user_track(user_id)
        anonymous = anon_track(anonymous_id or "")
        return self._root.get(anonymous, anonymous)

    def _view(self, root: str) -> Track:
        ids = (root, *self._adopted.get(root, ()))
        found = [self._tracks[track_id] for track_id in ids if track_id in self._tracks]
        if not found:
            found = [self._tracks.setdefault(root, Track.fresh(root))]
        return view(root, found)

    def _write(self, record: Record) -> DecisionId:
        self._n += 1
        at = DecisionId(0, 1, self._n, 0)
        track_id = record[1]
        before = self._tracks.get(track_id)
        after = fold(before, record, at)
        if after is not None:
            self._tracks[track_id] = after
        if self._told is not None:
            self._told(record, at)
        return at


def _consent(context: Mapping[str, Any]) -> dict[str, bool]:
    given = (context.get("consent") or {}).get("categoryPreferences") or {}
    return {name: bool(given.get(name, True)) for name in ("analytics", "personalisation", "training")}
