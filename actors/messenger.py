"""The messenger: tells destinations who entered and left segments, at least once, from the journal, off the hot path.

It reads segment transitions behind an offset for each destination and partition, which moves on only when a message
has been taken or laid aside. So a death at any moment repeats messages (with the same idempotency keys) and loses
none. What is laid aside is a dead letter: a place in the journal and no personal data, so that an erasure reaches it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from actors.ending import ended
from actors.history import History
from actors.message import HOPELESS, Answer, Destination, Post, body_of, headers_of
from actors.stores import Position, Stores
from engine.errors import Conflict, KairosError
from engine.record import SEGMENTS
from engine.sticky import bucket, holdout_key
from engine.transitions import Transition, transitions

log = logging.getLogger("kairos.messenger")

CHUNK: Final = 200
AT_ONCE: Final = 8
OFFSETS, DEAD = "webhooks/offsets/", "webhooks/dead/"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a destination wants to hear of one campaign."""

    segments: frozenset[str]
    tell: frozenset[str]
    to_holdout: bool
    holdout_share: float


class Messenger:
    """Verbs: start, step, stop. One is alive at a time; a second one notices at its first save and begins anew."""

    def __init__(
        self,
        stores: Stores,
        history: History,
        destinations: Mapping[str, Destination],
        post: Post,
        clock: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._stores, self._history, self._destinations = stores, history, destinations
        self._post, self._clock, self._sleep, self._chance = post, clock, sleep, chance
        self._rules: dict[str, dict[str, Rule]] = {}
        self._book = ""
        self._revs: dict[str, int] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._saving = {name: asyncio.Lock() for name in destinations}
        self._work: list[asyncio.Task[None]] = []

    def start(self, every_s: float = 1.0) -> None:
        """Begin to live: one task a destination, so that a slow one holds nobody else up."""
        self._work = [asyncio.create_task(self._live(one, every_s)) for one in self._destinations.values()]

    async def stop(self) -> None:
        """Stop; what is under way will be sent again."""
        await ended(*self._work)

    async def _live(self, destination: Destination, every_s: float) -> None:
        while True:
            try:
                while await self.step(destination.name):
                    pass
            except Conflict:
                self._told.pop(destination.name, None)
            except KairosError as failure:
                log.warning("webhooks to %s: %s", destination.name, failure.message)
            except Exception:
                log.exception("webhooks to %s: a turn failed", destination.name)
            await self._sleep(every_s)

    async def step(self, name: str) -> int:
        """Send what stands behind the offsets of one destination, some of each partition; how many entries were read.

        Raises:
            engine.errors.Conflict: `another_messenger` has saved offsets of this destination.
        """
        destination = self._destinations[name]
        await self._follow_book()
        offsets = await self._offsets(name)
        await self._redrive(destination)
        free, n_partitions = asyncio.Semaphore(AT_ONCE), len(offsets)

        async def one(partition: int) -> int:
            async with free:
                return await self._partition(destination, partition, offsets)

        read = await asyncio.gather(*(one(p) for p in range(n_partitions)))
        if any(read):
            await self._save(name)
        return sum(read)

    async def _partition(self, destination: Destination, partition: int, offsets: list[list[int] | None]) -> int:
        at = offsets[partition]
        rows = await self._history.read(partition, None if at is None else (at[0], at[1]), CHUNK)
        for position, payload in rows:
            sent = False
            for transition in _of(partition, position, payload):
                if self._wanted(destination.name, transition):
                    await self._deliver(destination, transition)
                    sent = True
            offsets[partition] = list(position)
            if sent:
                await self._save(destination.name)
        return len(rows)

    def _wanted(self, name: str, transition: Transition) -> bool:
        rule = self._rules.get(name, {}).get(transition.campaign)
        if rule is None or transition.segment not in rule.segments or transition.kind not in rule.tell:
            return False
        return rule.to_holdout or not _held(rule, transition)

    async def _deliver(self, destination: Destination, transition: Transition) -> bool:
        """Try until it is taken; lay it aside, and say False, when it never will be."""
        told = self._told[destination.name]
        body, answer = body_of(transition), Answer(0)
        for tried in range(1, destination.tries + 1):
            headers = headers_of(transition, body, destination, self._clock(), tried)
            answer = await self._post(destination.url, body, headers, destination.timeout_s)
            if answer.taken:
                told["delivered"] += 1
                return True
            told["failed_tries"] += 1
            if answer.status in HOPELESS or tried == destination.tries:
                break
            await self._sleep(destination.wait_s(tried, self._chance(), answer.retry_after_s))
        letter = {
            "key": transition.key, "place": transition.place, "segment": transition.segment, "kind": transition.kind,
            "campaign": transition.campaign, "at_ms": transition.at_ms, "dead_ms": self._clock(), "tries": tried,
            "status": answer.status, "error": answer.error[:200], "redrive": False,
        }  # fmt: skip
        # Kept before the offset moves on; of a letter that is there already, the new reason counts.
        await self._put(f"{DEAD}{destination.name}/{transition.key}", letter)
        told["dead"] += 1
        return False

    # -- dead letters ----------------------------------------------------------------------------------

    async def _redrive(self, destination: Destination) -> None:
        for name, _, letter in await self._stores.documents.list(f"{DEAD}{destination.name}/"):
            if not letter["redrive"]:
                continue
            transition = await self._read_again(letter)
            if transition is None or await self._deliver(destination, transition):
                await self._stores.documents.delete(name)

    async def _read_again(self, letter: Mapping[str, Any]) -> Transition | None:
        """The transition at a place of the journal; None where it has been erased or is beyond retention."""
        partition, epoch, seq, _ = (int(part) for part in str(letter["place"]).split("_"))
        payload = await self._history.get(partition, (epoch, seq))
        found = [] if payload is None else _of(partition, (epoch, seq), payload)
        return next((one for one in found if one.key == letter["key"]), None)

    # -- what is kept ----------------------------------------------------------------------------------

    async def _offsets(self, name: str) -> list[list[int] | None]:
        if name not in self._told:
            kept = await self._stores.documents.get(OFFSETS + name)
            if kept is not None:
                self._revs[name], self._told[name] = kept
            else:
                # What was before the destination was named is not news to it.
                n = (await self._stores.table.read()).n_partitions
                last = await self._stores.journal.lasts(range(n))
                offsets = [None if at is None else list(at) for at in last]
                self._revs[name] = 0
                self._told[name] = {"offsets": offsets, "delivered": 0, "failed_tries": 0, "dead": 0}
                await self._save(name)
        offsets_kept: list[list[int] | None] = self._told[name]["offsets"]
        return offsets_kept

    async def _save(self, name: str) -> None:
        async with self._saving[name]:
            if not await self._stores.documents.compare_and_set(OFFSETS + name, self._revs[name], self._told[name]):
                raise Conflict("another_messenger", f"another messenger serves {name}")
            self._revs[name] += 1

    async def _put(self, name: str, document: Mapping[str, Any]) -> None:
        while True:
            known = await self._stores.documents.get(name)
            if await self._stores.documents.compare_and_set(name, 0 if known is None else known[0], document):
                return

    async def _follow_book(self) -> None:
        version = (await self._stores.versions.world())["book"]
        if version == self._book or not version:
            return
        kept = await self._stores.versions.get("book", version)
        if kept is not None:
            self._rules, self._book = rules_of(orjson.loads(kept[1])), version


def _held(rule: Rule, transition: Transition) -> bool:
    """Whether the visitor sees no offers: as assigned, which stays through links and other shares, else by the hash."""
    if rule.holdout_share <= 0.0:
        return False
    if transition.held is not None:
        return transition.held
    return bucket(holdout_key(transition.campaign), transition.root) < rule.holdout_share


def rules_of(book: Mapping[str, Any]) -> dict[str, dict[str, Rule]]:
    """The wishes of each destination by campaign, of a book that has been checked."""
    rules: dict[str, dict[str, Rule]] = {}
    for campaign, raw in book["campaigns"].items():
        share = float((raw.get("holdout") or {}).get("share") or 0.0)
        for name, wish in (raw.get("webhooks") or {}).items():
            tell = frozenset(wish.get("tell") or ("enter", "leave"))
            to_holdout = bool(wish.get("to_holdout", False))
            rules.setdefault(name, {})[campaign] = Rule(frozenset(wish["segments"]), tell, to_holdout, share)
    return rules


def _of(partition: int, position: Position, payload: bytes) -> list[Transition]:
    if b'"' + SEGMENTS.encode() + b'"' not in payload and b'"d"' not in payload:
        return []
    found: list[Transition] = []
    for index, record in enumerate(orjson.loads(payload)[1:]):
        if record is not None:
            found += transitions(record, f"{partition}_{position[0]}_{position[1]}_{index}")
    return found
