"""The raw context of a request, with its headers, into the few words the engine knows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from serving.agents import UNKNOWN, Agent, AgentReader, system

Context = dict[str, Any]

_NOTHING: Final[Mapping[str, Any]] = {}
_GENERATIONS: Final = frozenset({"slow-2g", "2g", "3g", "4g", "5g"})
_SLOW: Final = frozenset({"slow-2g", "2g", "3g"})
_HINT_DEVICES: Final = {"mobile": "mobile", "phone": "mobile", "tablet": "tablet", "desktop": "desktop", "tv": "tv"}
_BROWSERS: Final = ("mozilla/", "opera/")


class Hints(NamedTuple):
    """The request headers that say something about the visitor's device."""

    user_agent: str | None = None
    mobile: str | None = None
    platform: str | None = None
    save_data: str | None = None
    effective_type: str | None = None
    language: str | None = None


class ContextReader:
    """Normalises contexts; user agents and time zones are remembered. Wrong values count as not given."""

    def __init__(self, agents: AgentReader | None = None) -> None:
        self._agents = agents or AgentReader()
        self._zone = lru_cache(maxsize=1024)(_zone)

    def read(self, raw: object, hints: Hints, now_ms: int) -> Context:
        """The normalised context, as it is recorded.

        A user agent in the body is the visitor's. One in the headers is too if it is a browser's; a program that
        calls on somebody's behalf (curl, an HTTP library) says nothing about the visitor.
        """
        context = raw if isinstance(raw, dict) else _NOTHING
        agent = self._agent(context, hints)
        network, save_data = _network(_mapping(context, "network"), hints)
        zone_name = _text(context, "timezone", 64)
        zone = self._zone(zone_name) if zone_name is not None else None
        hour = weekday = None
        if zone is not None:
            local = datetime.fromtimestamp(now_ms / 1000, zone)
            hour, weekday = local.hour, local.weekday()
        location = _mapping(context, "location")
        lat, lon = _degrees(location, ("latitude", "lat"), 90), _degrees(location, ("longitude", "lon", "lng"), 180)
        if lat is None or lon is None:
            lat = lon = None
        return {
            "device": agent.device, "os": agent.os, "browser": agent.browser, "bot": agent.bot,
            "network": network, "save_data": save_data, "locale": _locale(context, hints),
            "timezone": None if zone is None else zone_name, "local_hour": hour, "weekday": weekday,
            "lat": lat, "lon": lon, "country": _country(location),
        }  # fmt: skip

    def _agent(self, context: Mapping[str, Any], hints: Hints) -> Agent:
        given = _text(context, "userAgent", 1024)
        if given is not None:
            agent = self._agents.read(given)
        elif hints.user_agent and hints.user_agent[:8].lower().startswith(_BROWSERS):
            agent = self._agents.read(hints.user_agent[:1024])
        else:
            agent = UNKNOWN
        data = _mapping(context, "userAgentData")
        platform, mobile = data.get("platform", hints.platform), data.get("mobile", hints.mobile)
        named, kind = _mapping(context, "os").get("name"), _mapping(context, "device").get("type")
        if platform is None and mobile is None and named is None and kind is None:
            return agent
        return _with_hints(agent, platform or named, mobile, kind)


def _with_hints(agent: Agent, platform: object, mobile: object, kind: object) -> Agent:
    if agent.bot:
        return agent
    os, device = agent.os, agent.device
    if isinstance(platform, str) and (hinted := system(platform.strip('" '))) != "other":
        os = hinted
    if isinstance(kind, str):
        # Segment's mobile libraries put the system's name ("ios", "android") where others put the kind of device.
        hinted = system(kind)
        os = hinted if os == "other" else os
        device = _HINT_DEVICES.get(kind.lower(), device)
    if mobile in ("?1", True):
        device = "mobile" if device != "tablet" else device
    elif mobile in ("?0", False) and device in ("mobile", "other"):
        device = "tablet" if os in ("android", "ios") else "desktop"
    if device == "other" and os in ("ios", "android"):
        device = "mobile"
    return agent._replace(os=os, device=device)


def _network(network: Mapping[str, Any], hints: Hints) -> tuple[str, bool]:
    save_data = network.get("saveData") is True or (hints.save_data or "").lower() == "on"
    effective = network.get("effectiveType") or hints.effective_type
    if not isinstance(effective, str) or effective not in _GENERATIONS:
        effective = None
    kind = network.get("type")
    if effective in _SLOW:
        # A slow measurement says more about what can be loaded than the name of the radio.
        return str(effective), save_data
    if network.get("wifi") is True or kind == "wifi":
        return "wifi", save_data
    if network.get("ethernet") is True or kind == "ethernet":
        return "ethernet", save_data
    if effective is not None:
        return effective, save_data
    if isinstance(kind, str) and kind.lower() in _GENERATIONS:
        return kind.lower(), save_data
    # Cellular without a generation: 4G is by far the likeliest.
    return ("4g" if network.get("cellular") is True or kind == "cellular" else "unknown"), save_data


def _locale(context: Mapping[str, Any], hints: Hints) -> str | None:
    locale = _text(context, "locale", 35)
    if locale is None and hints.language:
        locale = hints.language.split(",", 1)[0].split(";", 1)[0].strip()[:35]
    return locale.replace("_", "-") if locale and locale != "*" else None


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
