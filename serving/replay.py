"""Replay: the events of a file, sent to `/v1/batch` in each visitor's order, with retries and bounded memory."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import orjson

from engine.errors import InvalidInput, KairosError, Unavailable
from serving.distinct import Distinct
from serving.mapped import EventMapper, Mapped
from serving.rows import Found, Malformed

MAX_BATCH_BYTES: Final = 400 * 1024
"""Below the contract's 500 KB, so that the envelope always fits."""
MAX_BATCH_EVENTS: Final = 250
QUEUE_EVENTS: Final = 1000
RETRY_S: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
PATIENCE_S: Final = 60.0
FIRST_PATIENCE_S: Final = 5.0
"""For a server that has never answered: the address may simply be wrong."""
MAX_RETRY_AFTER_S: Final = 30.0

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]


@dataclass(slots=True)
class Summary:
    """What became of a file."""

    n_lines: int = 0
    n_events: int = 0
    n_skipped: int = 0
    n_malformed: int = 0
    n_accepted: int = 0
    n_duplicates: int = 0
    n_retries: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    profiles: Distinct = field(default_factory=Distinct)
    first_ms: int | None = None
    last_ms: int | None = None

    @property
    def n_rejected(self) -> int:
        """Events refused, whatever the code."""
        return sum(self.rejected.values())

    @property
    def n_answered(self) -> int:
        """Events of which the fate is known."""
        return self.n_accepted + self.n_duplicates + self.n_rejected

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "lines": self.n_lines, "events": self.n_events, "skipped": self.n_skipped, "malformed": self.n_malformed,
            "accepted": self.n_accepted, "duplicates": self.n_duplicates, "rejected": dict(self.rejected),
            "profiles": self.profiles.count, "profilesExact": self.profiles.exact, "retries": self.n_retries,
        }  # fmt: skip


class ReplayStopped(KairosError):
    """The other side refused the whole replay, for example because of the key."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast events leave: as fast as they are taken, or with the gaps of the file divided by `speed`.

    With a speed the replay is *as if live*: an event is stamped with the moment it is sent, so that recency,
    sessions and windows are what the server's clock makes of them. Without, events keep their own times.
    """

    speed: float | None = None

    def due_s(self, t_ms: int, first_ms: int) -> float:
        """Seconds after the start at which an event is due; one that is out of order is due at once."""
        return max(0.0, (t_ms - first_ms) / 1000 / self.speed) if self.speed else 0.0


class Replay:
    """Sends mapped events over one client. `run` once; `summary` may be read at any time."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        backfill: bool = False,
        pace: Pace = Pace(),
        lanes: int = 4,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.time,
        on_malformed: Callable[[Malformed], None] = lambda _: None,
    ) -> None:
        self._client, self._pace = client, pace
        self._path = "/v1/batch?backfill=true" if backfill else "/v1/batch"
        self._sleep, self._clock, self._on_malformed = sleep, clock, on_malformed
        self._queues = [asyncio.Queue[Mapped | None](maxsize=QUEUE_EVENTS) for _ in range(lanes)]
        self._answered = False
        self.summary = Summary()

    async def run(self, events: Iterable[Mapped | Malformed]) -> Summary:
        """Send everything and wait until it is answered.

        Raises:
            ReplayStopped: the server refuses this sender. Unavailable: it did not answer for a minute.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for queue in self._queues:
                    group.create_task(self._lane(queue))
                await self._feed(events)
        except* KairosError as errors:
            raise _first(errors) from None
        return self.summary

    async def _feed(self, events: Iterable[Mapped | Malformed]) -> None:
        began = self._clock()
        for found in events:
            if isinstance(found, Malformed):
                self.summary.n_malformed += 1
                self._on_malformed(found)
                continue
            self._note(found)
            if self._pace.speed is not None:
                assert self.summary.first_ms is not None
                wait = began + self._pace.due_s(found.t_ms, self.summary.first_ms) - self._clock()
                if wait > 0:
                    await self._sleep(wait)
                found.event["timestamp"] = int(self._clock() * 1000)
            # One visitor, one lane: its events never overtake each other.
            await self._queues[zlib.crc32(found.who.encode()) % len(self._queues)].put(found)
        for queue in self._queues:
            await queue.put(None)

    def _note(self, found: Mapped) -> None:
        summary = self.summary
        summary.n_events += 1
        summary.profiles.add(found.who)
        if summary.first_ms is None:
            summary.first_ms = found.t_ms
        summary.last_ms = max(summary.last_ms or found.t_ms, found.t_ms)

    async def _lane(self, queue: asyncio.Queue[Mapped | None]) -> None:
        ended = False
        while not ended:
            batch: list[bytes] = []
            size = 0
            item = await queue.get()
            while item is not None:
                batch.append(orjson.dumps(item.event))
                size += len(batch[-1]) + 1
                if size >= MAX_BATCH_BYTES or len(batch) >= MAX_BATCH_EVENTS or queue.empty():
                    break
                item = queue.get_nowait()
            ended = item is None
            if batch:
                await self._send(batch)

    async def _send(self, batch: list[bytes]) -> None:
        """Deliver one batch; it is the same batch on every attempt, so what had arrived counts once."""
        body = b'{"batch":[' + b",".join(batch) + b"]}"
        response = await self._post(body)
        if response.status_code == 413:
            if len(batch) == 1:
                self.summary.rejected["too_large"] += 1
                return
            middle = len(batch) // 2
            await self._send(batch[:middle])
            await self._send(batch[middle:])
            return
        answer = _answer(response)
        if response.status_code not in (200, 400) or "rejected" not in answer:
            message = answer.get("message") or answer.get("detail") or response.reason_phrase
            raise ReplayStopped(str(answer.get("code", "refused")), f"HTTP {response.status_code}: {message}")
        self.summary.n_accepted += int(answer.get("accepted", 0))
        self.summary.n_duplicates += int(answer.get("duplicates", 0))
        self.summary.rejected.update(str(r.get("code")) for r in answer["rejected"])

    async def _post(self, body: bytes) -> httpx.Response:
        waited, attempt = 0.0, 0
        headers = {"Content-Type": "application/json"}
        while True:
            pause = RETRY_S[min(attempt, len(RETRY_S) - 1)]
            try:
                response = await self._client.post(self._path, content=body, headers=headers)
                self._answered = True
                if response.status_code not in (429, 502, 503, 504):
                    return response
                reason = f"HTTP {response.status_code}"
                pause = max(pause, _retry_after_s(response))
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise InvalidInput("bad_url", f"{self._client.base_url}: {error}") from None
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            if waited >= (PATIENCE_S if self._answered else FIRST_PATIENCE_S):
                raise Unavailable("no_answer", f"{self._client.base_url}: no answer for {waited:.0f} s: {reason}")
            self.summary.n_retries += 1
            attempt, waited = attempt + 1, waited + pause
            await self._sleep(pause)


def mapped_rows(
    found: Iterator[Found | Malformed], mapper: EventMapper, summary: Summary, limit: int | None = None
) -> Iterator[Mapped | Malformed]:
    """Rows mapped one by one, counted in `summary`; ends after `limit` events."""
    n_events = 0
    for row in found:
        summary.n_lines = max(summary.n_lines, row.line)
        event = row if isinstance(row, Malformed) else mapper.map(row)
        if event is None:
            summary.n_skipped += 1
            continue
        yield event
        n_events += isinstance(event, Mapped)
        if limit is not None and n_events >= limit:
            return


def _answer(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return min(MAX_RETRY_AFTER_S, max(0.0, float(response.headers.get("Retry-After", 0))))
    except ValueError:
        return 1.0


def _first(errors: BaseExceptionGroup[KairosError]) -> KairosError:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, KairosError)
    return error
