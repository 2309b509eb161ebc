"""Journal records by hand, for the tests of learning: visitors of a small shop, each at home in a partition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from engine.book import compile_book, load_book
from engine.compiled import CompiledBook
from engine.decide import decide
from engine.features import profile_features
from engine.ids import partition_of
from engine.inputs import Request, read_inputs
from engine.prior import PriorModel
from engine.record import (
    ADOPTED,
    BOT,
    NO_TRAINING,
    REWARD,
    SUPERSEDED,
    Record,
    decision_record,
    forgotten_mark,
    forgotten_record,
    signals_record,
    versions_used,
    visit_record,
)
from engine.schema import schema_hash
from engine.signals import Signal
from engine.supply import Forced, Supply
from engine.track import Track
from engine.world import World
from tests.engine.builders import MINUTE, T0
from training.attribution import Attribution
from training.example import Example
from training.keeping import keep
from training.window import Window

BOOK: dict[str, Any] = {
    "timezone": "UTC",
    "currency": "EUR",
    "campaigns": {
        "main": {
            "priority": 5,
            "placements": ["page"],
            "conversion": {"event": "Order Completed", "within": "5m", "value": "margin"},
            "offers": {"gift": {"when": {"os": ["ios"]}, "content": {"text": "a"}, "value": 30}},
            "policy": {"kind": "greedy"},
        },
        "clicks": {
            "placements": ["banner"],
            "conversion": {"event": "Offer Clicked", "within": "5m", "value": 2},
            "offers": {"gift": {"content": {"text": "a"}, "value": 30}},
            "policy": {"kind": "epsilon_greedy", "epsilon": 0.2},
        },
    },
}  # fmt: skip
WORLD = World(compile_book(load_book(BOOK), "b1"), PriorModel())
KEY = b"k" * 32
N = 4
A, B, U = "anon:a", "anon:b", "user:u"
Entry = tuple[int, tuple[int, int], list[Record | None]]


def books(version: str) -> CompiledBook | None:
    return WORLD.book if version == "b1" else None


def mark(track: str) -> int:
    return forgotten_mark(KEY, track)


class Scribe:
    """Writes what shards would write; `entries` are all journals, in the order of time."""

    def __init__(self) -> None:
        self.now_ms = T0
        self.entries: list[Entry] = []
        self.roots: dict[str, str] = {}
        self._seqs = [0] * N
        self._messages = 0

    def root(self, track: str) -> str:
        return self.roots.get(track, track)

    def write(self, track: str, *records: Record, at: int | None = None) -> tuple[int, tuple[int, int]]:
        partition = partition_of(self.root(track), N) if at is None else at
        self._seqs[partition] += 1
        position = (1, self._seqs[partition])
        self.entries.append((partition, position, list(records)))
        return partition, position

    def decide(self, track: str, *, placement: str = "page", os: str = "ios", **more: Any) -> str:
        """A decision; returns its id. `bot`, `train`, `personalise`, `qa`, `book` make it one that teaches nothing."""
        root = self.root(track)
        consent = {"training": more.get("train", True), "personalisation": more.get("personalise", True)}
        context = {"os": os, "bot": more.get("bot", False), "device": "mobile"}
        read = read_inputs(Track.fresh(root), Request(placement), context, consent, self.now_ms)
        read.supply = Supply(forced=Forced("qa")) if more.get("qa") else None
        decision = decide(read, WORLD, now_ms=self.now_ms, rng=Random(1))
        versions = versions_used(WORLD, decision, more.get("schema", schema_hash()))
        versions.book = more.get("book", "b1")
        record = decision_record(self.now_ms, 1, "model", versions, None, read, decision, 120)
        partition, position = self.write(root, record)
        return f"d_{partition}_{position[0]}_{position[1]}_0"

    def visit(self, track: str) -> str:
        root = self.root(track)
        features = profile_features(Track.fresh(root), self.now_ms)
        versions = ["1", "b1", "prior-1", schema_hash()]
        goal = ("main", "order_completed", 5 * MINUTE)
        row = [None if x != x else x for x in features]  # noqa: PLR0124 - NaN as JSON has it
        record = visit_record(root, self.now_ms, row, {"os": "ios"}, None, versions, goal)  # type: ignore[arg-type]
        partition, position = self.write(root, record)
        return f"v:{partition}_{position[0]}_{position[1]}_0"

    def send(self, track: str, kind: str, t_ms: int | None = None, flags: int = 0, **fields: Any) -> None:
        self.signal(track, kind, fields, t_ms, flags)

    def signal(self, track: str, kind: str, fields: dict[str, Any], t_ms: int | None = None, flags: int = 0) -> None:
        self._messages += 1
        signal = Signal(kind, self.now_ms if t_ms is None else t_ms, self._messages, fields)
        self.write(track, signals_record(track, self.now_ms, flags, [signal], self.root(track)))

    def order(self, track: str, order_id: str = "o1", value: float = 100.0, **more: Any) -> None:
        self.send(track, "order_completed", order_id=order_id, value=value, **more)

    def reward(self, decision: str, kind: str, value: float) -> None:
        self.write("", [REWARD, "t", self.now_ms, decision, kind, value], at=int(decision.split("_")[1]))

    def supersede(self, decision: str) -> None:
        self.write("", [SUPERSEDED, "t", self.now_ms, decision], at=int(decision.split("_")[1]))

    def link(self, anon: str, user: str) -> None:
        self.roots[anon] = user
        self.write(user, [ADOPTED, anon, self.now_ms, user, self.now_ms, None])

    def unlink(self, anon: str) -> None:
        self.roots.pop(anon, None)
        self.write(anon, [ADOPTED, anon, self.now_ms, anon, self.now_ms, None])

    def erase(self, track: str) -> None:
        self.write(track, forgotten_record(self.now_ms, mark(track)))

    def wait(self, ms: int) -> None:
        self.now_ms += ms


def written(script: list[tuple[str, Any, Any]]) -> Scribe:
    """What shards would write of a script: a verb and what it is about, step by step."""
    shop, last = Scribe(), ""
    for verb, one, two in script:
        shop.wait(one if verb == "wait" else 7)
        if verb == "decide":
            last = shop.decide(one, placement=two)
        elif verb == "visit":
            shop.visit(one)
        elif verb in ("order", "late", "refuse"):
            flags = NO_TRAINING if verb == "refuse" else 0
            shop.order(one, two, t_ms=shop.now_ms - (400_000 if verb == "late" else 0), flags=flags)
        elif verb in ("order_refunded", "order_cancelled"):
            some = {"value": 40.0} if one == A and verb == "order_refunded" else {}
            shop.signal(one, verb, {"order_id": two, **some})
        elif verb in ("offer_viewed", "offer_clicked"):
            shop.signal(one, verb, {"offer_id": "gift", **({"decision_id": last} if two and last else {})})
        elif verb == "reward" and last:
            shop.reward(last, two, 1.0)
        elif verb == "supersede" and last:
            shop.supersede(last)
        elif verb == "bot":
            shop.send(one, "scroll", flags=BOT, px=1.0)
        elif verb == "link" and one not in shop.roots:
            shop.link(one, two)
        elif verb == "unlink" and one in shop.roots:
            shop.unlink(one)
        elif verb == "erase":
            shop.erase(one)
    return shop


class Reader:
    """Attribution over a window, as learning puts them together."""

    def __init__(self, capacity: int = 10_000) -> None:
        self.window = Window(capacity)
        self.attribution = Attribution(N, books, mark)
        self.told: list[Example] = []

    def keep(self) -> Reader:
        self.told += keep(self.attribution, self.window)
        return self

    def read(self, entries: Sequence[Entry] | Iterator[Entry]) -> Reader:
        for partition, position, records in entries:
            self.attribution.observe(partition, position, records)
            self.keep()
        return self

    def advance(self, watermark_ms: int) -> Reader:
        for partition in range(N):
            self.attribution.advance(partition, watermark_ms)
        return self.keep()

    def __getitem__(self, key: str) -> Example:
        found = self.window.get(key)
        assert found is not None
        return found

    def matured(self) -> dict[str, Example]:
        held = {key: self[key] for key in self.window}
        return {key: example for key, example in held.items() if example.matured}


def learned(scribe: Scribe, after_ms: int = 60 * MINUTE) -> Reader:
    """Everything read in the order of time, and matured."""
    return Reader().read(scribe.entries).advance(scribe.now_ms + after_ms)


__all__ = [
    "BOOK", "BOT", "KEY", "NO_TRAINING", "WORLD", "A", "B", "Entry", "N", "Reader", "Scribe", "U", "books", "learned",
    "mark", "written",
]  # fmt: skip
