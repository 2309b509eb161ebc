"""The raw context of a request, with its headers, into the few words the engine knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from serving.agents import UNKNOWN, Agent, AgentReader
from serving.client_hints import with_hints
from serving.networks import network_of
from serving.places import NOWHERE, Places

Context = dict[str, Any]

_NOTHING: Final[Mapping[str, Any]] = {}
_BROWSERS: Final = ("mozilla/", "opera/")
_CRAWLERS: Final = re.compile(r"bot\b|crawler|spider|slurp", re.IGNORECASE)


class Hints(NamedTuple):
    """What comes with a request besides its body: headers about the visitor's device, and who sent it.

    `peer` and `forwarded` are looked up where the operator has a file of places, and go no further.
    """

    user_agent: str | None = None
    mobile: str | None = None
    platform: str | None = None
    save_data: str | None = None
    effective_type: str | None = None
    language: str | None = None
    brands: str | None = None
    form_factors: str | None = None
    rtt: str | None = None
    downlink: str | None = None
    peer: str | None = None
    forwarded: str | None = None


class ContextReader:
    """Normalises contexts; user agents and time zones are remembered. Wrong values count as not given."""

    def __init__(self, agents: AgentReader | None = None, places: Places | None = None) -> None:
        self._agents = agents or AgentReader()
        self._places = places
        self._zone = lru_cache(maxsize=1024)(_zone)

    def read(self, raw: object, hints: Hints, now_ms: int, *, locate: bool = True) -> Context:
        """The normalised context, as it is recorded.

        A user agent in the body is the visitor's. One in the headers is too if it is a browser's, or a crawler's by
        its own word; a program that calls on somebody's behalf (curl, an HTTP library) says nothing about the visitor.
        `locate`: whether a place may be derived from the address, which wants the visitor's consent.
        """
        context = raw if isinstance(raw, dict) else _NOTHING
        agent = self._agent(context, hints)
        network = _mapping(context, "network")
        location = _mapping(context, "location")
        lat, lon, country, city = _place(location) if location else (None, None, None, None)
        zone_name = _text(context, "timezone", 64)
        if self._places is not None and locate:
            place = self._places.of(hints.peer, hints.forwarded, now_ms)
            if place is not NOWHERE:
                zone_name = zone_name or place.timezone
                if country is None and lat is None:
                    country, city, lat, lon = place.country, city or place.city, place.lat, place.lon
        zone = self._zone(zone_name) if zone_name is not None else None
        hour = weekday = None
        if zone is not None:
            local = datetime.fromtimestamp(now_ms / 1000, zone)
            hour, weekday = local.hour, local.weekday()
        return {
            "device": agent.device, "os": agent.os, "browser": agent.browser, "bot": agent.bot,
            "network": network_of(
                network, effective_type=hints.effective_type, rtt=hints.rtt, downlink=hints.downlink
            ),
            "save_data": network.get("saveData") is True or (hints.save_data or "").lower() == "on",
            "locale": _locale(context, hints),
            "timezone": None if zone is None else zone_name, "local_hour": hour, "weekday": weekday,
            "lat": lat, "lon": lon, "country": country, "city": city,
        }  # fmt: skip

    def _agent(self, context: Mapping[str, Any], hints: Hints) -> Agent:
        given = _text(context, "userAgent", 1024)
        if given is not None:
            agent = self._agents.read(given)
        elif hints.user_agent and _of_visitor(hints.user_agent):
            agent = self._agents.read(hints.user_agent[:1024])
        else:
            agent = UNKNOWN
        data = _mapping(context, "userAgentData")
        platform, mobile = data.get("platform", hints.platform), data.get("mobile", hints.mobile)
        brands, forms = data.get("brands", hints.brands), data.get("formFactors", hints.form_factors)
        named, kind = _mapping(context, "os").get("name"), _mapping(context, "device").get("type")
        if platform is None and mobile is None and named is None and kind is None and brands is None and forms is None:
            return agent
        return with_hints(
            agent, platform=platform or named, mobile=mobile, kind=kind, brands=brands, form_factors=forms
        )


def _of_visitor(header: str) -> bool:
    """Whether a user agent in the headers is the visitor's own, and not that of a program in between."""
    return header[:8].lower().startswith(_BROWSERS) or _CRAWLERS.search(header, 0, 1024) is not None


def _locale(context: Mapping[str, Any], hints: Hints) -> str | None:
    locale = _text(context, "locale", 35)
    if locale is None and hints.language:
        locale = hints.language.split(",", 1)[0].split(";", 1)[0].strip()[:35]
    return locale.replace("_", "-") if locale and locale != "*" else None


def _place(location: Mapping[str, Any]) -> tuple[float | None, float | None, str | None, str | None]:
    """Latitude and longitude, both or neither, country and city."""
    lat, lon = _degrees(location, ("latitude", "lat"), 90), _degrees(location, ("longitude", "lon", "lng"), 180)
    if lat is None or lon is None:
        lat = lon = None
    return lat, lon, _country(location), _text(location, "city", 128)


def _country(location: Mapping[str, Any]) -> str | None:
    country = _text(location, "country", 64)
    return country.upper() if country is not None and len(country) == 2 else country


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # fmt: skip
        return None


def _mapping(context: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = context.get(name)
    return value if isinstance(value, dict) else _NOTHING


def _text(context: Mapping[str, Any], name: str, limit: int) -> str | None:
    value = context.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= limit else None


def _degrees(location: Mapping[str, Any], names: tuple[str, ...], bound: int) -> float | None:
    for name in names:
        value = location.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and -bound <= value <= bound:
            return float(value)
    return None
