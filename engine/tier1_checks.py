"""The `tier1` section checked beyond its types: an address that can be asked, settings that do something."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from engine.durations import duration_ms, duration_text
from engine.findings import Findings, Loc, nearest, one_of

PLACEHOLDERS: Final = ("userId", "anonymousId", "placement", "campaign", "limit", "locale", "country", "device")
"""What may stand in `{…}` in the address; what is not known there is left empty."""
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
MAX_TIMEOUT_MS: Final = 10_000


def check_tier1(raw: Mapping[str, Any], loc: Loc, findings: Findings) -> None:
    """Add what is wrong with one campaign's section."""
    url, mode = raw.get("url"), raw.get("mode", "fill")
    if isinstance(url, str):
        _check_url(url, (*loc, "url"), findings)
    else:
        for key in ("timeout", "cache"):
            if raw.get(key) is not None and key == "cache":
                findings.warn((*loc, key), "no_effect", "it is for what is fetched, and there is no url")
    timeout_ms = duration_ms(raw.get("timeout"))
    if timeout_ms is not None and timeout_ms > MAX_TIMEOUT_MS:
        expected = f"at most {duration_text(MAX_TIMEOUT_MS)}, as long as a decision may take"
        findings.add((*loc, "timeout"), "out_of_range", expected, found=raw["timeout"])
    if raw.get("weight") is not None and mode not in ("enhance", "apprentice"):
        findings.warn((*loc, "weight"), "no_effect", f"only enhance and apprentice blend; the mode is {mode}")
    if raw.get("divergence") is not None and mode not in ("enhance", "override"):
        findings.warn((*loc, "divergence"), "no_effect", f"only enhance and override reorder; the mode is {mode}")


def _check_url(url: str, loc: Loc, findings: Findings) -> None:
    try:
        parts = urlsplit(_BRACES.sub("x", url))
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_ok = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok or any(c.isspace() for c in url):
        findings.add(loc, "wrong_url", "an http or https address", found=url)
        return
    if parts.username is not None or parts.password is not None:
        what = "an address without a password (put keys into the settings' tier1.headers)"
        findings.add(loc, "wrong_url", what, found="one with a password")
    if _BRACES.search(url.split("?", 1)[0].split("://", 1)[1].split("/", 1)[0]):
        findings.add(loc, "wrong_url", "a fixed host; placeholders may stand in path and query", found=url)
    for name in _BRACES.findall(url):
        if name not in PLACEHOLDERS:
            near = nearest(name, PLACEHOLDERS)
            findings.add(loc, "unknown_placeholder", one_of(PLACEHOLDERS, 16), found=name, near=near)
