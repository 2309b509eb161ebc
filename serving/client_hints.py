"""Client hints over what the user agent says: brands, mobile, platform, form factors.

Source: https://wicg.github.io/ua-client-hints (the grease among brands, form factors).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from serving.agents import Agent, system

_BRAND: Final = re.compile(r'"((?:[^"\\]|\\.){1,64})"\s*;\s*v\s*=')
_GREASE: Final = re.compile(r"not.{0,3}a?.{0,3}brand", re.IGNORECASE)
_NAMES: Final = {
    "google chrome": "Chrome", "microsoft edge": "Edge", "headlesschrome": "HeadlessChrome",
    "opera": "Opera", "brave": "Brave", "samsung internet": "Samsung Internet", "yandex": "Yandex Browser",
    "vivaldi": "Vivaldi", "android webview": "Chrome Mobile WebView", "duckduckgo": "DuckDuckGo",
}  # fmt: skip
_ENGINES: Final = frozenset({"chromium"})
_DEVICES: Final = {"mobile": "mobile", "phone": "mobile", "tablet": "tablet", "desktop": "desktop", "tv": "tv"}


def with_hints(
    agent: Agent,
    *,
    platform: object = None,
    mobile: object = None,
    kind: object = None,
    brands: object = None,
    form_factors: object = None,
) -> Agent:
    """The agent as its hints correct it; hints win, since agents are frozen and shared by many browsers.

    `kind` is Segment's `device.type`; `brands` a Sec-CH-UA header or userAgentData's list; `form_factors` a
    Sec-CH-UA-Form-Factors header or a list. What cannot be used counts as not given.
    """
    if agent.bot:
        return agent
    os, device, browser = agent.os, agent.device, agent.browser
    if isinstance(platform, str) and (hinted := system(platform.strip('" '))) != "other":
        os = hinted
    if isinstance(kind, str):
        # Segment's mobile libraries put the system's name ("ios", "android") where others put the kind of device.
        hinted = system(kind)
        os = hinted if os == "other" else os
        device = _DEVICES.get(kind.lower(), device)
    if mobile in ("?1", True):
        device = "mobile" if device != "tablet" else device
    elif mobile in ("?0", False) and device in ("mobile", "other"):
        device = "tablet" if os in ("android", "ios") else "desktop"
    if form_factors is not None and (form := _form(form_factors)) is not None:
        device = form
    if device == "other" and os in ("ios", "android"):
        device = "mobile"
    if brands is not None and (brand := _brand(brands)) is not None:
        if brand == "HeadlessChrome":
            return Agent("bot", os, brand, True)
        # The parser's own name for the same browser says more ("Chrome Mobile").
        browser = browser if browser.startswith(brand) else brand
    return agent._replace(os=os, device=device, browser=browser)


def _brand(brands: object) -> str | None:
    """The browser among the brands: neither grease nor the engine, if there is any other."""
    if isinstance(brands, str):
        return _brand_in_header(brands[:512])
    if not isinstance(brands, list):
        return None
    return _chosen([b["brand"] for b in brands[:16] if isinstance(b, Mapping) and isinstance(b.get("brand"), str)])


@lru_cache(maxsize=1024)
def _brand_in_header(header: str) -> str | None:
    return _chosen(_BRAND.findall(header))


def _chosen(names: list[str]) -> str | None:
    real = [name for name in names if _GREASE.search(name) is None]
    named = [name for name in real if name.lower() not in _ENGINES]
    if not named:
        return "Chromium" if real else None
    return _NAMES.get(named[0].lower(), named[0][:64])


def _form(given: object) -> str | None:
    words: list[Any] = given[:8] if isinstance(given, list) else str(given)[:128].split(",")
    found = [_DEVICES.get(word.strip('" ').lower()) for word in words if isinstance(word, str)]
    return next((form for form in found if form is not None), None)
