"""Events of one request sorted into chains: one per visitor, each in the order of the request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.events import Event
from engine.ids import anon_track

Outcome = str | dict[str, Any]
"""What became of an event: `accepted`, `duplicate`, or a code with a message."""


@dataclass(slots=True)
class Step:
    """Consecutive signals for one track under one context.

    `links` are the pairs of tracks to join first; `alias`: nothing else was asked for.
    """

    track: str
    links: tuple[tuple[str, str], ...]
    context: dict[str, Any]
    consent: dict[str, bool]
    indexes: list[int]
    signals: list[list[Any]]
    alias: bool = False


Chain = list[Step]


def chains(events: Iterable[tuple[int, Event, dict[str, Any], dict[str, bool]]]) -> list[Chain]:
    """Chains that may run side by side. Tracks that a link in the request joins share one, so that order is kept."""
    events = list(events)
    joined: dict[str, str] = {}
    for _, event, _, _ in events:
        for named, to in _links(event):
            a, b = _root(joined, named), _root(joined, to)
            if a != b:
                joined[a] = b
    by_root: dict[str, Chain] = {}
    for index, event, context, consent in events:
        track = event.track
        chain = by_root.setdefault(_root(joined, track) if joined else track, [])
        links = _links(event)
        last = chain[-1] if chain else None
        if (
            last is not None and not links and last.track == track
            and last.context == context and last.consent == consent
        ):  # fmt: skip
            last.indexes.append(index)
            last.signals.append(event.signal.to_list())
        else:
            step = Step(track, links, context, consent, [index], [event.signal.to_list()], event.type == "alias")
            chain.append(step)
    return list(by_root.values())


def _links(event: Event) -> tuple[tuple[str, str], ...]:
    if event.link is None:
        return event.more
    return ((anon_track(event.link), event.track), *event.more)


def _root(joined: dict[str, str], track: str) -> str:
    while (parent := joined.get(track)) is not None:
        track = parent
    return track
