"""Where Tier 1's suggestions come from: the addresses of a book, filled in for one request, and the reply read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson

from engine.book import Book
from engine.errors import InvalidInput
from serving.decide_request import read_base

_BRACES: Final = re.compile(r"\{(\w+)\}")
N_SUGGESTIONS: Final = 500


class NoSuggestions(Exception):
    """Tier 1 gave none that can be used; the text says why, as the answer tells it."""


@dataclass(frozen=True, slots=True)
class Source:
    """One address of the book, with its patience in seconds."""

    url: str
    campaign: str
    timeout_s: float
    cache_s: float

    @property
    def name(self) -> str:
        """The address without what may be secret in it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}{':' + str(parts.port) if parts.port else ''}{parts.path}"

    def filled(self, values: Mapping[str, object]) -> str:
        """The address for one request: its placeholders filled, or else ids, placement and limit as its query."""
        if _BRACES.search(self.url) is None:
            query = "&".join(f"{name}={_text(values[name])}" for name in _ASKED if values.get(name) is not None)
            return f"{self.url}{'&' if '?' in self.url else '?'}{query}"
        return _BRACES.sub(lambda found: _text(values.get(found.group(1))), self.url)


_ASKED: Final = ("userId", "anonymousId", "placement", "limit")


def _text(value: object) -> str:
    return "" if value is None else quote(str(value), safe="")


def sources_of(book: Book, hosts: frozenset[str]) -> dict[str, tuple[Source, ...]]:
    """By placement, the sources of the campaigns that list it, the highest priority first; empty where none has any.

    `hosts`: the only ones that may be asked; empty is any.
    """
    found: dict[str, list[tuple[int, str, Source]]] = {}
    for name, campaign in book.model.campaigns.items():
        spec = campaign.tier1
        if not campaign.enabled or campaign.stage == "draft" or spec.url is None:
            continue
        if hosts and urlsplit(spec.url).hostname not in hosts:
            continue
        source = Source(spec.url, name, spec.timeout_ms / 1000, spec.cache_ms / 1000)
        for placement in campaign.placements:
            found.setdefault(placement, []).append((-campaign.priority, name, source))
    return {placement: tuple(source for *_, source in sorted(rows)) for placement, rows in found.items()}


def read_suggestions(body: bytes) -> list[dict[str, Any]]:
    """The suggestions in a reply: a list, or an object with `items` or `base`; of ids, or `{id, score?, content?}`.

    Raises:
        NoSuggestions: for anything else.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NoSuggestions("TIER1_INVALID") from None
    if isinstance(found, dict):
        found = found.get("items", found.get("base"))
    if not isinstance(found, list):
        raise NoSuggestions("TIER1_INVALID")
    rows = [{"id": row} if isinstance(row, str | int) else row for row in found[:N_SUGGESTIONS]]
    try:
        return read_base(rows, N_SUGGESTIONS)
    except InvalidInput:
        raise NoSuggestions("TIER1_INVALID") from None
