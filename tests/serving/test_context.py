"""What a request says about its visitor becomes the few words the engine knows."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.agents import AgentReader
from serving.consent import ConsentReader
from serving.context import ContextReader, Hints
from serving.settings_branches import ConsentDefaults

NOW_MS = 1_714_564_800_000
"""Wednesday 2024-05-01T12:00:00Z."""
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Mobile/15E148 Safari/604.1"
)
WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
)
ANDROID_TABLET = (
    "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36"
)
TV = "Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/537.36 (KHTML, like Gecko) Version/6.0 TV Safari/537.36"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
DATA = Path(os.environ.get("KAIROS_DATA", Path(__file__).parents[3] / "shared" / "data"))


def read(context: Any = None, **hints: str) -> dict[str, Any]:
    return ContextReader().read(context, Hints(**hints), NOW_MS)


def test_what_is_remembered_of_a_context_is_neither_its_time_nor_another_value_that_python_calls_equal() -> None:
    reader, context = ContextReader(), {"userAgent": IPHONE, "timezone": "Europe/Berlin", "network": {"saveData": True}}
    first, later = (reader.read(context, Hints(), NOW_MS + hours * 3_600_000) for hours in (0, 1))
    assert (later["local_hour"] - first["local_hour"]) % 24 == 1
    assert {**later, "local_hour": 0} == {**first, "local_hour": 0}
    assert reader.read({**context, "network": {"saveData": 1}}, Hints(), NOW_MS)["save_data"] is False
    assert reader.read({**context, "page": {"url": "x" * 5_000}}, Hints(), NOW_MS) == first
    assert reader.read({**context, "locale": "x" * 5_000}, Hints(save_data="on"), NOW_MS) == first


@pytest.mark.parametrize(
    ("agent", "device", "os_name", "bot"),
    [
        (IPHONE, "mobile", "ios", False), (WINDOWS, "desktop", "windows", False),
        (ANDROID_TABLET, "tablet", "android", False), (TV, "tv", "other", False), (GOOGLEBOT, "bot", "other", True),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0 Safari/537.36", "bot", "linux", True),
        ("python-requests/2.31", "bot", "other", True), ("curl/8.0", "bot", "other", True),
        ("ShopApp/3.1 CFNetwork/1410 Darwin/22.6.0", "mobile", "ios", False), ("", "other", "other", False),
    ],
)  # fmt: skip
def test_a_user_agent_tells_device_system_and_bot(agent: str, device: str, os_name: str, bot: bool) -> None:
    found = read({"userAgent": agent})
    assert (found["device"], found["os"], found["bot"]) == (device, os_name, bot)


def test_the_visitors_own_agent_wins_over_the_callers() -> None:
    assert read({"userAgent": IPHONE}, user_agent=GOOGLEBOT)["os"] == "ios"
    assert read({}, user_agent=WINDOWS)["browser"] == "Chrome"
    assert read({}, user_agent="curl/8.0")["bot"] is False
    assert read({}, user_agent="Googlebot/2.1 (+http://www.google.com/bot.html)")["bot"] is True


def test_client_hints_win_over_the_agent() -> None:
    found = read({}, user_agent=WINDOWS, mobile="?1", platform='"Android"')
    assert (found["device"], found["os"]) == ("mobile", "android")
    assert read({"userAgent": WINDOWS, "userAgentData": {"mobile": False, "platform": "macOS"}})["os"] == "macos"
    assert read({}, user_agent=IPHONE, mobile="?0", platform='"macOS"')["device"] == "desktop"


def test_segments_mobile_libraries_name_system_and_device() -> None:
    found = read({"os": {"name": "iOS", "version": "17"}, "device": {"type": "ios"}})
    assert (found["device"], found["os"]) == ("mobile", "ios")


@pytest.mark.parametrize(
    ("network", "hints", "expected"),
    [
        ({"wifi": True}, {}, "wifi"), ({"cellular": True}, {}, "4g"),
        ({"cellular": True, "effectiveType": "3g"}, {}, "3g"),
        ({"wifi": True, "effectiveType": "2g"}, {}, "2g"), ({"wifi": True, "effectiveType": "4g"}, {}, "wifi"),
        ({"type": "ethernet"}, {}, "ethernet"), ({"type": "5g"}, {}, "5g"),
        ({}, {"effective_type": "slow-2g"}, "slow-2g"),
        ({}, {}, "unknown"), ({"effectiveType": ["4g"]}, {}, "unknown"), ("wifi", {}, "unknown"), (None, {}, "unknown"),
    ],
)  # fmt: skip
def test_the_network_is_named(network: Any, hints: dict[str, str], expected: str) -> None:
    assert read({"network": network}, **hints)["network"] == expected


def test_data_saving_comes_from_the_header_or_the_context() -> None:
    assert read({}, save_data="on")["save_data"] is True
    assert read({"network": {"saveData": True}})["save_data"] is True
    assert read({})["save_data"] is False


@pytest.mark.parametrize(
    ("zone", "hour", "weekday"),
    [("Europe/Berlin", 14, 2), ("Pacific/Auckland", 0, 3), ("Mars/Olympus", None, None),
     ("../../etc/passwd", None, None),
     ("Europe", None, None), ("a\x00b", None, None), (5, None, None), (None, None, None)],
)  # fmt: skip
def test_local_time_comes_from_a_real_time_zone(zone: Any, hour: int | None, weekday: int | None) -> None:
    found = read({"timezone": zone})
    assert (found["local_hour"], found["weekday"]) == (hour, weekday)
    assert found["timezone"] == (zone if hour is not None else None)


@pytest.mark.parametrize(
    ("location", "lat", "lon"),
    [({"latitude": 52.5, "longitude": 13.4}, 52.5, 13.4), ({"latitude": 91, "longitude": 0}, None, None),
     ({"latitude": 52.5}, None, None), ({"latitude": "52", "longitude": "13"}, None, None), ([], None, None)],
)  # fmt: skip
def test_a_place_needs_both_degrees(location: Any, lat: float | None, lon: float | None) -> None:
    found = read({"location": location})
    assert (found["lat"], found["lon"]) == (lat, lon)


def test_locale_and_country() -> None:
    assert read({"locale": "de_DE", "location": {"country": "de"}})["locale"] == "de-DE"
    assert read({"location": {"country": "de"}})["country"] == "DE"
    assert read({}, language="fr-CH, fr;q=0.9")["locale"] == "fr-CH"
    assert read({}, language="*")["locale"] is None


@pytest.mark.parametrize("context", [None, [], "x", 5, {"userAgent": 5, "userAgentData": [], "os": 1, "device": "x"}])
def test_a_context_that_says_nothing_has_every_field_all_the_same(context: Any) -> None:
    assert read(context).keys() == read({"userAgent": IPHONE}).keys()


# -- consent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preferences", "gpc", "expected"),
    [
        (None, None, (True, True, False)), ({"training": True}, None, (True, True, True)),
        ({"personalisation": False}, None, (True, False, False)), ({"analytics": "no"}, None, (True, True, False)),
        ({"training": True, "personalisation": True}, "1", (True, False, False)), ({}, "0", (True, True, False)),
        ("x", None, (True, True, False)), ({"personalization": False}, None, (True, False, False)),
    ],
)  # fmt: skip
def test_consent_is_what_was_said_or_else_the_default(preferences: Any, gpc: str | None, expected: Any) -> None:
    consent = ConsentReader(ConsentDefaults(training=False)).read(preferences, gpc)
    assert consent == dict(zip(("analytics", "personalisation", "training"), expected, strict=True))


# -- real agents -----------------------------------------------------------------------------------------


def _yaml(name: str) -> list[dict[str, Any]]:
    if not DATA.is_dir():
        pytest.skip("the data sets are not here (KAIROS_DATA)")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with gzip.open(DATA / name, "rt", encoding="utf-8") as text:
        cases: list[dict[str, Any]] = yaml.load(text, Loader=loader)["test_cases"]
    return cases


def _crawlers() -> list[dict[str, Any]]:
    if not DATA.is_dir():
        pytest.skip("the data sets are not here (KAIROS_DATA)")
    with gzip.open(DATA / "crawler_user_agents.json.gz") as text:
        crawlers: list[dict[str, Any]] = json.load(text)
    return crawlers


@pytest.mark.data
def test_nearly_every_known_crawler_is_a_bot() -> None:
    read_agent = AgentReader().read
    instances = [agent for crawler in _crawlers() for agent in crawler.get("instances", [])]
    assert sum(read_agent(agent).bot for agent in instances) / len(instances) > 0.95


@pytest.mark.data
def test_hardly_any_browser_is_a_bot() -> None:
    patterns = [re.compile(crawler["pattern"]) for crawler in _crawlers()]
    named = re.compile("bot|crawl|spider", re.IGNORECASE)
    agents = [case["user_agent_string"] for case in _yaml("uap_test_ua.yaml.gz")]
    browsers = [
        agent for agent in agents
        if agent.startswith(("Mozilla/", "Opera/")) and not named.search(agent)
        and not any(pattern.search(agent) for pattern in patterns)
    ]  # fmt: skip
    read_agent = AgentReader().read
    assert len(browsers) > 450
    assert sum(read_agent(agent).bot for agent in browsers) / len(browsers) < 0.05


@pytest.mark.data
def test_the_systems_of_known_agents_are_recognised() -> None:
    expected = {"iOS": "ios", "Mac OS X": "macos", "Android": "android", "Windows": "windows", "Ubuntu": "linux"}
    cases = [case for case in _yaml("uap_test_os.yaml.gz") if case["family"] in expected]
    read_agent = AgentReader().read
    right = sum(read_agent(case["user_agent_string"]).os == expected[case["family"]] for case in cases)
    assert len(cases) > 150
    assert right == len(cases)
