"""Tier 1 asked on behalf of a decision: within its own time, behind a breaker and a cache, and never in the way."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, NamedTuple

import httpx

from actors.ending import ended
from serving.breaker import Breaker
from serving.settings_branches import Tier1Asked
from serving.tier1_source import NoSuggestions, Source, read_suggestions

log = logging.getLogger("kairos.http")

STALE_TIMES: Final = 30
"""What has left the cache is kept so many times as long, for when Tier 1 fails."""
SHARE: Final = 0.5
"""Of the time left at most this much is waited for Tier 1: the rest is the shard's."""
FETCHED, CACHED, STALE = "fetched", "cached", "stale"
TIMEOUT, ERROR, INVALID, OPEN, BUSY = "TIER1_TIMEOUT", "TIER1_ERROR", "TIER1_INVALID", "TIER1_OPEN", "TIER1_BUSY"
"""Why there are none, as answers and metrics tell it."""
IDENTITY: Final = "identity"
Items = list[dict[str, Any]]


class Suggested(NamedTuple):
    """What Tier 1 suggests, and where that came from or why there is nothing."""

    base: Items
    source: str


@dataclass(slots=True)
class _Counted:
    """One source since the start: its breaker, and how often it came to what."""

    source: Source
    breaker: Breaker
    results: Counter[str] = field(default_factory=Counter)
    total_s: float = 0.0


class Tier1:
    """Verbs: use (sources), source (of a placement), fetch, told, close. Belongs to one event loop."""

    def __init__(
        self,
        settings: Tier1Asked,
        *,
        clock: Callable[[], float] = monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings, self._clock, self._transport = settings, clock, transport
        self.sources: Mapping[str, tuple[Source, ...]] = {}
        self._client: httpx.AsyncClient | None = None
        self._counted: dict[str, _Counted] = {}
        self._cache: OrderedDict[str, tuple[float, Items]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Items]] = {}

    async def open(self) -> None:
        """Make the client ready, in a thread: reading the system's certificates takes many milliseconds."""
        if self._client is None:
            self._client = await asyncio.to_thread(self._opened)

    def use(self, sources: Mapping[str, tuple[Source, ...]]) -> None:
        """Ask these from now on; breakers and counts of addresses that stay are kept."""
        self.sources = sources
        urls = {source.url for row in sources.values() for source in row}
        self._counted = {url: counted for url, counted in self._counted.items() if url in urls}

    def source(self, placement: str, campaign: str | None) -> Source | None:
        """Whom to ask for this placement: the campaign named, else the highest that has an address."""
        row = self.sources.get(placement)
        if not row:
            return None
        return row[0] if campaign is None else next((s for s in row if s.campaign == campaign), None)

    async def fetch(self, source: Source, values: Mapping[str, object], left_s: float) -> Suggested:
        """Tier 1's suggestions, within its own time-out and half of what is left; never raises.

        A request that is still on its way then goes on, and fills the cache for the next one.
        """
        now, url = self._clock(), source.filled(values)
        counted = self._counts(source)
        held = self._cache.get(url)
        if held is not None and now - held[0] < source.cache_s:
            self._cache.move_to_end(url)
            counted.results[CACHED] += 1
            return Suggested(held[1], CACHED)
        task = self._asking.get(url)
        if task is None:
            reason = self._refusal(counted, now)
            if reason is not None:
                return self._without(source, counted, held, now, reason)
            task = self._asking[url] = asyncio.get_running_loop().create_task(self._ask(source, counted, url))
            task.add_done_callback(lambda done: self._done(url, done))
        await asyncio.wait({task}, timeout=max(0.0, min(source.timeout_s, SHARE * left_s)))
        if not task.done():
            return self._without(source, counted, held, now, TIMEOUT)
        if task.cancelled():
            return self._without(source, counted, held, now, ERROR)
        failure = task.exception()
        if failure is not None:
            return self._without(source, counted, held, now, str(failure))
        counted.results[FETCHED] += 1
        return Suggested(task.result(), FETCHED)

    def told(self) -> list[dict[str, Any]]:
        """Every source with its breaker and what it came to since this ingress started."""
        now = self._clock()
        placements: dict[str, list[str]] = {}
        for placement, row in self.sources.items():
            for source in row:
                placements.setdefault(source.url, []).append(placement)
        rows = []
        for url, names in placements.items():
            counted = self._counted.get(url)
            source = next(s for s in self.sources[names[0]] if s.url == url)
            results = counted.results if counted is not None else Counter[str]()
            answered = results["answered"]
            rows.append(
                {
                    "source": source.name, "campaign": source.campaign, "placements": sorted(names),
                    "breaker": "closed" if counted is None else counted.breaker.state(now),
                    "opened": 0 if counted is None else counted.breaker.n_opened,
                    "results": {name: n for name, n in sorted(results.items()) if name != "answered"},
                    "mean_ms": counted.total_s / answered * 1000 if counted is not None and answered else None,
                }
            )  # fmt: skip
        return rows

    async def close(self) -> None:
        """End what is on its way."""
        await ended(*self._asking.values())
        if self._client is not None:
            await self._client.aclose()

    # -- one request -----------------------------------------------------------------------------------

    async def _ask(self, source: Source, counted: _Counted, url: str) -> Items:
        started = self._clock()
        try:
            async with asyncio.timeout(source.timeout_s):
                found = await self._get(url)
        except (TimeoutError, httpx.TimeoutException):
            counted.breaker.failed(self._clock())
            raise NoSuggestions(TIMEOUT) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
            counted.breaker.failed(self._clock())
            raise NoSuggestions(ERROR) from None
        except NoSuggestions:
            counted.breaker.failed(self._clock())
            raise
        except Exception:
            log.exception("asking Tier 1 at %s failed", source.name)
            counted.breaker.failed(self._clock())
            raise NoSuggestions(ERROR) from None
        counted.breaker.succeeded()
        now = self._clock()
        counted.results["answered"] += 1
        counted.total_s += now - started
        self._keep(url, source, now, found)
        return found

    async def _get(self, url: str) -> Items:
        if self._client is None:
            self._client = self._opened()
        async with self._client.stream("GET", url) as reply:
            if reply.status_code == 204:
                return []
            if reply.status_code != 200:
                raise NoSuggestions(ERROR)
            if reply.headers.get("content-encoding", IDENTITY) != IDENTITY:
                # It was asked not to: what unfolds to a thousand times its size would hold up every decision.
                raise NoSuggestions(INVALID)
            body = b""
            async for chunk in reply.aiter_raw():
                body += chunk
                if len(body) > self._settings.max_bytes:
                    raise NoSuggestions(INVALID)
        return read_suggestions(body)

    def _opened(self) -> httpx.AsyncClient:
        n = self._settings.max_connections
        headers = {
            "accept": "application/json",
            "accept-encoding": IDENTITY,
            "user-agent": "kairos",
            **self._settings.headers,
        }
        return httpx.AsyncClient(
            headers=headers, timeout=None, follow_redirects=False, trust_env=False, transport=self._transport,
            limits=httpx.Limits(max_connections=n, max_keepalive_connections=n),
        )  # fmt: skip

    def _counts(self, source: Source) -> _Counted:
        counted = self._counted.get(source.url)
        if counted is None:
            s = self._settings
            counted = _Counted(source, Breaker(s.failures, s.open_s, s.longest_open_s))
            self._counted[source.url] = counted
        return counted

    def _refusal(self, counted: _Counted, now: float) -> str | None:
        if len(self._asking) >= 2 * self._settings.max_connections:
            return BUSY
        return None if counted.breaker.allows(now) else OPEN

    def _without(
        self, source: Source, counted: _Counted, held: tuple[float, Items] | None, now: float, reason: str
    ) -> Suggested:
        counted.results[reason] += 1
        if held is not None and now - held[0] < (1 + STALE_TIMES) * source.cache_s:
            counted.results[STALE] += 1
            return Suggested(held[1], STALE)
        return Suggested([], reason)

    def _keep(self, url: str, source: Source, now: float, found: Items) -> None:
        if source.cache_s <= 0.0:
            return
        self._cache[url] = (now, found)
        self._cache.move_to_end(url)
        while len(self._cache) > self._settings.cache_entries:
            self._cache.popitem(last=False)

    def _done(self, url: str, task: asyncio.Task[Items]) -> None:
        self._asking.pop(url, None)
        if not task.cancelled():
            task.exception()  # Looked at, so that nobody complains of one that was not waited for.
