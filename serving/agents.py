"""What a user agent string says: device, operating system, browser, and whether it is a crawler."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from ua_parser import Domain, Parser, PartialResult, load_lazy_builtins
from ua_parser.regex import Resolver

CACHE: Final = 8192
MAX_LENGTH: Final = 1024

_CRAWLER: Final = re.compile(
    r"(?<!cu)bot\b|(?<!cu)bot[/_;0-9-]|crawl|spider|slurp|scrap(?:e|y)|archiver|headless|phantomjs|lighthouse"
    r"|puppeteer|playwright|selenium|curl/|wget|libwww|http[-_ ]?(?:client|unit|_get)|okhttp|python|urllib|aiohttp"
    r"|go-http|\bjava/\d|java\)|jakarta|jersey|guzzle|axios|node-fetch|superagent|\bruby|\bperl|php[/_]|winhttp|zgrab|nmap"
    r"|masscan|nikto|fetch(?:er)?\b|monitor|uptime|pingdom|prob(?:e|er)\b|scan(?:ner)?\b|check(?:er)?[/_ ]|valid"
    r"|inspect|link ?(?:preview|check|walk|find)|bingpreview|yahoo link|facebookexternalhit|facebookcatalog|embedly"
    r"|feed(?:fetcher|parser|burner|ly|bin|validator)|\brss|mediapartners|apis-google|google-(?!play)|googleother"
    r"|bookmark|baiduspider|\bseo|ahrefs|semrush|screaming|sitemap|(?:site|link) ?(?:explorer|improve|dex|analy)"
    r"|grabber|harvest|indexer|httrack|search(?:engine|bot)|analyz|nagios|zabbix|newspaper|ips-agent|detector"
    r"|https?://|\bwww\.|\(at\)|@[a-z0-9-]+\.[a-z]|(?<=[a-z0-9])\.(?:com|net|org|io)\b"
    r"|^mozilla/\d\.\d \(compatible;(?!\s?(?:msie|konqueror|googletoolbar|windows|u;))",
    re.IGNORECASE,
)
_BARE: Final = re.compile(r"(?!mozilla/|opera/)[\w .+-]+(?:/[\w.+-]+)?(?: \([^)]*\))?\s*", re.IGNORECASE)
"""A name and a version and nothing else: a program of its own, no browser and no app on a named system."""
_ON_SYSTEM: Final = re.compile(
    r"android|iphone|ipad|ios\b|darwin|windows|linux|mac ?os|watchos|roku|hbbtv|browser"
    r"|symbian|midp|blackberry|nokia|samsung|ericsson",
    re.I,
)
_TV: Final = re.compile(
    r"smart-?tv|hbbtv|appletv|apple tv|googletv|bravia|roku|crkey|aft[a-z]+\b|web0s|netcast|tizen.+tv|\btv\b", re.I
)
_TABLET: Final = re.compile(r"ipad|tablet|kindle|silk/|playbook|nexus (?:7|9|10)\b|sm-t\d|sm-x\d", re.I)
_MOBILE: Final = re.compile(r"mobi|iphone|ipod|windows phone|blackberry|bb10|opera mini|symbian|\bwatch", re.I)


class Agent(NamedTuple):
    """A user agent in the words of the context: `device`, `os`, `browser`, `bot`."""

    device: str
    os: str
    browser: str
    bot: bool


UNKNOWN: Final = Agent("other", "other", "", False)


class AgentReader:
    """Reads user agents; the parser is built on first use, answers are kept for the last 8192 strings."""

    def __init__(self) -> None:
        self._parser: Parser | None = None
        self.read = lru_cache(maxsize=CACHE)(self._read)

    def warm(self) -> AgentReader:
        """Build the parser now: a quarter of a second that no visitor should wait for."""
        # What it compiles on its first use belongs to that.
        self._parse("")
        return self

    def _parse(self, text: str) -> PartialResult:
        self._parser = self._parser or Parser(Resolver(load_lazy_builtins()))
        return self._parser(text, Domain.ALL)

    def _read(self, text: str) -> Agent:
        result = self._parse(text[:MAX_LENGTH])
        os = system(result.os.family if result.os else "")
        spider = result.device is not None and result.device.family == "Spider"
        browser = result.user_agent.family[:64] if result.user_agent else ""
        if spider or _crawler(text):
            return Agent("bot", os, browser, True)
        return Agent(_device(text, os), os, browser, False)


def _crawler(text: str) -> bool:
    if _CRAWLER.search(text) is not None:
        return True
    return _BARE.fullmatch(text) is not None and _ON_SYSTEM.search(text) is None


def system(family: str) -> str:
    """An operating system's name in the words of the context.

    >>> system("Mac OS X"), system("iPadOS"), system("Windows NT"), system("Ubuntu"), system("Tizen")
    ('macos', 'ios', 'windows', 'linux', 'other')
    """
    name = family.lower()
    if name in ("ios", "ipados", "watchos", "tvos", "atv os x", "iphone os"):
        return "ios"
    if name.startswith(("mac os", "macos", "mac ")):
        return "macos"
    if name.startswith("android") or name == "fire os":
        return "android"
    if name.startswith("windows"):
        return "windows"
    if name in _LINUX:
        return "linux"
    return "other"


_LINUX: Final = frozenset(
    {"linux", "ubuntu", "debian", "fedora", "red hat", "centos", "suse", "opensuse", "arch linux", "gentoo",
     "linux mint", "mint", "kubuntu", "mandriva", "slackware", "chrome os", "chromeos", "chromium os", "puppy"}
)  # fmt: skip


def _device(text: str, os: str) -> str:
    if _TV.search(text) is not None:
        return "tv"
    mobile = _MOBILE.search(text) is not None
    if _TABLET.search(text) is not None or (os == "android" and not mobile):
        return "tablet"
    if mobile or os in ("ios", "android"):
        return "mobile"
    return "desktop" if os in ("windows", "macos", "linux") else "other"
