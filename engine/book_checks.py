"""A book checked beyond its types: every name that refers to something, every value that must make sense.

The checks read the raw data, not the typed book, so that a wrong type in one place hides nothing in another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from engine.book_model import CONVERSION_EVENTS, DEFAULT_WEIGHTS, EVENT_NAMES
from engine.condition_checks import Scope, check_group, check_when
from engine.condition_model import GROUP_KEYS
from engine.durations import duration_ms, duration_text
from engine.findings import Findings, Loc, nearest, one_of
from engine.geofence_checks import check_geofences
from engine.offer_checks import check_terms
from engine.schema import STAGES, offer_code
from engine.templates import check_content
from engine.tier1_checks import check_tier1

MAX_DEPTH: Final = 32
MAX_NODES: Final = 200_000
MAX_WITHIN_MS: Final = 90 * 86_400_000
"""No conversion is waited for longer, nor are profiles kept longer unless the settings say so."""
MAX_INTEGER: Final = 10**18


def plain_data(data: Any, findings: Findings) -> dict[str, Any] | None:
    """A copy of the data that holds only what JSON can; None if that is no mapping, or larger than any real book.

    What cannot stay is a finding; keys that are not text are left out, so that the rest can still be checked.
    """
    if not isinstance(data, Mapping):
        findings.add((), "wrong_type", "a mapping with the key campaigns", found=data)
        return None
    copy: dict[str, Any] = {}
    stack: list[tuple[Loc, Any, Any]] = [((), data, copy)]
    n = 0
    while stack:
        loc, value, into = stack.pop()
        n += len(value)
        if len(loc) > MAX_DEPTH or n > MAX_NODES:
            deep = len(loc) > MAX_DEPTH
            most = f"at most {MAX_DEPTH} levels" if deep else f"at most {MAX_NODES} values"
            findings.add(loc[:4], "too_deep" if deep else "too_large", most, found="more")
            return None
        children = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, child in children:
            if isinstance(value, Mapping) and not _is_text(key):
                findings.add((*loc, str(key)), "wrong_name", "text as a key (put it in quotes)", found=key)
                continue
            at = (*loc, key)
            kept = _plain(child, at, findings)
            if isinstance(value, Mapping):
                into[key] = kept
            else:
                into.append(kept)
            if isinstance(child, Mapping | list):
                stack.append((at, child, kept))
    return copy


def _plain(value: Any, loc: Loc, findings: Findings) -> Any:
    if isinstance(value, Mapping):
        return {}
    if isinstance(value, list):
        return []
    if isinstance(value, float) and not math.isfinite(value):
        findings.add(loc, "wrong_type", "a finite number", found=value)
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        findings.add(loc, "wrong_type", "a number of at most 18 digits", found="a longer one")
    elif isinstance(value, str) and not _is_text(value):
        findings.add(loc, "wrong_type", "text that can be written as UTF-8", found="half a surrogate pair")
    elif value is not None and not isinstance(value, str | int | float):
        findings.add(loc, "wrong_type", "text, a number, true or false", found=type(value).__name__)
    else:
        return value
    return None


def _is_text(value: Any) -> bool:
    # Half of a surrogate pair is a character to Python and to nobody else.
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def check_book(data: Mapping[str, Any], findings: Findings) -> None:
    """Add every finding and warning that types alone do not give."""
    zone = data.get("timezone")
    if isinstance(zone, str) and not _is_zone(zone):
        zones = available_timezones()
        near = nearest(zone, zones)
        findings.add(("timezone",), "unknown_timezone", "an IANA time zone", found=zone, near=near)
    geofences = _mapping(data, "geofences")
    check_geofences(geofences, findings)
    campaigns = _mapping(data, "campaigns")
    if not campaigns and isinstance(data.get("campaigns"), Mapping):
        findings.add(("campaigns",), "empty_book", "at least one campaign", found="none")
    for name, campaign in campaigns.items():
        if isinstance(campaign, Mapping):
            check_campaign(campaign, ("campaigns", name), geofences, findings)
    _check_codes(campaigns, findings)


def check_campaign(raw: Mapping[str, Any], loc: Loc, geofences: Mapping[str, Any], findings: Findings) -> None:
    """One campaign: conversion, weights, segments and what refers to them, offers, policy."""
    if raw.get("placements") == []:
        findings.add((*loc, "placements"), "empty_placements", "at least one placement", found=[])
    event = _mapping(raw, "conversion").get("event")
    if isinstance(event, str) and event.strip().lower() not in CONVERSION_EVENTS:
        near = nearest(event, EVENT_NAMES)
        findings.add((*loc, "conversion", "event"), "unknown_event", one_of(EVENT_NAMES, 20), found=event, near=near)
    within_ms = duration_ms(_mapping(raw, "conversion").get("within"))
    if within_ms is not None and within_ms > MAX_WITHIN_MS:
        expected = f"at most {duration_text(MAX_WITHIN_MS)}: nothing is learned of a decision before that is over"
        findings.add((*loc, "conversion", "within"), "out_of_range", expected, found=raw["conversion"]["within"])
    weights = _mapping(_mapping(raw, "score"), "weights")
    for stage in weights:
        if stage not in (*STAGES, "default"):
            options = (*STAGES, "default")
            at = (*loc, "score", "weights", stage)
            findings.add(at, "unknown_stage", one_of(options), found=stage, near=nearest(stage, options))
    segments = _mapping(raw, "segments")
    scope = Scope(segments, geofences, _score_max(weights), findings)
    for name, segment in segments.items():
        check_group(segment, (*loc, "segments", name), scope)
    _check_cycles(segments, (*loc, "segments"), findings)
    for name, offer in _mapping(raw, "offers").items():
        if isinstance(offer, Mapping):
            _check_offer(offer, (*loc, "offers", name), scope)
    _check_policy(_mapping(raw, "policy"), (*loc, "policy"), findings)
    check_tier1(_mapping(raw, "tier1"), (*loc, "tier1"), findings)


def _check_offer(raw: Mapping[str, Any], loc: Loc, scope: Scope) -> None:
    check_when(raw.get("when"), (*loc, "when"), scope)
    if "content" in raw:
        check_content(raw["content"], (*loc, "content"), scope.findings)
    check_terms(raw, loc, scope.findings)


def _check_policy(raw: Mapping[str, Any], loc: Loc, findings: Findings) -> None:
    if raw.get("epsilon") is not None and raw.get("kind") != "epsilon_greedy":
        kind = raw.get("kind", "thompson")
        findings.add((*loc, "epsilon"), "epsilon_unused", "no epsilon, or kind: epsilon_greedy", found=f"kind {kind}")


def segments_named(raw: Any) -> Iterator[tuple[Loc, str]]:
    """Where a condition names segments, with the names."""
    if not isinstance(raw, Mapping):
        return
    if raw.get("feature") == "segment":
        for op in ("in", "not_in", "equals"):
            values = raw.get(op)
            for name in values if isinstance(values, list) else [values]:
                if isinstance(name, str):
                    yield (op,), name
    for join in GROUP_KEYS:
        children = raw.get(join)
        for index, child in enumerate(children if isinstance(children, list) else []):
            yield from (((join, index, *at), name) for at, name in segments_named(child))


def segment_order(segments: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Segments after those they name, in the order of the book; and the segments of the first cycle, if any."""
    order: list[str] = []
    done: set[str] = set()
    for first in segments:
        # No recursion: a chain may be as long as the book.
        path: dict[str, Iterator[tuple[Loc, str]]] = {}
        if first not in done:
            path[first] = segments_named(segments[first])
        while path:
            name = next(reversed(path))
            other = next((other for _, other in path[name] if other not in done and other in segments), None)
            if other is None:
                del path[name]
                done.add(name)
                order.append(name)
            elif other in path:
                names = list(path)
                return order, [*names[names.index(other) :], other]
            else:
                path[other] = segments_named(segments[other])
    return order, []


def _check_cycles(segments: Mapping[str, Any], loc: Loc, findings: Findings) -> None:
    _, cycle = segment_order(segments)
    if cycle:
        where = next(at for at, name in segments_named(segments[cycle[0]]) if name == cycle[1])
        expected = "segments that do not name each other in a circle"
        findings.add((*loc, cycle[0], *where), "segment_cycle", expected, found=" → ".join(cycle))


def _check_codes(campaigns: Mapping[str, Any], findings: Findings) -> None:
    """Two offers of one code look the same to the model; that is allowed, but it should be known."""
    taken: dict[int, str] = {}
    for campaign, raw in campaigns.items():
        for name in _mapping(raw, "offers") if isinstance(raw, Mapping) else ():
            other = taken.setdefault(offer_code(name), name)
            if other != name:
                what = f"the model cannot tell {name} from {other} (same category); rename one of them"
                findings.warn(("campaigns", campaign, "offers", name), "offer_code", what)


def _score_max(weights: Mapping[str, Any]) -> float:
    """The highest score any stage can reach; infinite while the weights are not readable."""
    sums = []
    for parts in ({"default": DEFAULT_WEIGHTS.model_dump()} | dict(weights)).values():
        try:
            sums.append(sum(float(parts[part]) for part in ("recency", "depth", "conversion")))
        except (TypeError, KeyError, ValueError):
            return math.inf
    return round(max(sums), 9)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except Exception:  # ZoneInfo raises by what it finds at the path: absent, a folder, a broken file
        return False
    return True


def _mapping(raw: Any, key: str) -> Mapping[str, Any]:
    value = raw.get(key) if isinstance(raw, Mapping) else None
    return value if isinstance(value, Mapping) else {}
