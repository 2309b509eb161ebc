"""The raw context of a request, with its headers, into the few words the engine knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from serving.agents import UNKNOWN, Agent, AgentReader
from serving.client_hints import with_hints
from serving.networks import network_of
from serving.places import NOWHERE, Places

Context = dict[str, Any]

CACHE: Final = 4096
"""Contexts that are remembered, of at most `MOST_REMEMBERED` bytes or characters, headers included."""
MOST_REMEMBERED: Final = 2048
_READ: Final = (
    "userAgent", "userAgentData", "os", "device", "network", "location", "timezone", "locale",
)  # fmt: skip
"""What is read of a raw context: pages, screens and campaigns differ where all of this is the same."""
_NOTHING: Final[Mapping[str, Any]] = {}
_BROWSERS: Final = ("mozilla/", "opera/")
_CRAWLERS: Final = re.compile(r"bot\b|crawler|spider|slurp", re.IGNORECASE)


Whereabouts = tuple[float | None, float | None, str | None, str | None, str | None]
"""Latitude, longitude, country, city and time zone."""
QUARTER_MS: Final = 900_000
"""A quarter of an hour, by which all clocks of the world differ."""


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


N_DEVICE_HINTS: Final = Hints._fields.index("peer")
"""The hints before it are about the device."""


class ContextReader:
    """Normalises contexts; what was read of the last ones is remembered. Wrong values count as not given."""

    def __init__(self, agents: AgentReader | None = None, places: Places | None = None) -> None:
        self._agents = agents or AgentReader()
        self._places = places
        self._zone = lru_cache(maxsize=1024)(_zone)
        self._local = lru_cache(maxsize=1024)(self._local_time)
        self._again = lru_cache(maxsize=CACHE)(self._told)

    def read(self, raw: object, hints: Hints, now_ms: int, *, locate: bool = True) -> Context:
        """The normalised context, as it is recorded.

        A user agent in the body is the visitor's. One in the headers is too if it is a browser's, or a crawler's by
        its own word; a program that calls on somebody's behalf (curl, an HTTP library) says nothing about the visitor.
        `locate`: whether a place may be derived from the address, which wants the visitor's consent.
        """
        device, place = self._remembered(raw, hints)
        lat, lon, country, city, zone_name = place
        if self._places is not None and locate:
            found = self._places.of(hints.peer, hints.forwarded, now_ms)
            if found is not NOWHERE:
                zone_name = zone_name or found.timezone
                if country is None and lat is None:
                    country, city, lat, lon = found.country, city or found.city, found.lat, found.lon
        hour = weekday = None
        if zone_name is not None:
            zone_name, hour, weekday = self._local(zone_name, now_ms // QUARTER_MS)
        return {
            **device,
            "timezone": zone_name, "local_hour": hour, "weekday": weekday,
            "lat": lat, "lon": lon, "country": country, "city": city,
        }  # fmt: skip

    def _remembered(self, raw: object, hints: Hints) -> tuple[Context, Whereabouts]:
        """What context and headers say, but for the time: many visitors say the same."""
        context = raw if isinstance(raw, dict) else _NOTHING
        told = orjson.dumps([context.get(name) for name in _READ])
        device_hints = hints[:N_DEVICE_HINTS]
        if len(told) + len("".join(filter(None, device_hints))) > MOST_REMEMBERED:
            return self._told(told, device_hints)
        return self._again(told, device_hints)

    def _told(self, told: bytes, device_hints: tuple[str | None, ...]) -> tuple[Context, Whereabouts]:
        context, hints = dict(zip(_READ, orjson.loads(told), strict=True)), Hints(*device_hints)
        agent = self._agent(context, hints)
        network, location = _mapping(context, "network"), _mapping(context, "location")
        device: Context = {
            "device": agent.device, "os": agent.os, "browser": agent.browser, "bot": agent.bot,
            "network": network_of(
                network, effective_type=hints.effective_type, rtt=hints.rtt, downlink=hints.downlink
            ),
            "save_data": network.get("saveData") is True or (hints.save_data or "").lower() == "on",
            "locale": _locale(context, hints),
        }  # fmt: skip
        place = _place(location) if location else (None, None, None, None)
        return device, (*place, _text(context, "timezone", 64))

    def _local_time(self, zone_name: str, quarter: int) -> tuple[str | None, int | None, int | None]:
        """A zone's name, and hour and weekday there in a quarter of an hour; nothing of a zone that there is not."""
        zone = self._zone(zone_name)
        if zone is None:
            return None, None, None
        local = datetime.fromtimestamp(quarter * QUARTER_MS / 1000, zone)
        return zone_name, local.hour, local.weekday()

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
