"""Where an address is, from a MaxMind-format file of the operator's; the address itself goes nowhere else."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from engine.errors import InvalidInput

if TYPE_CHECKING:
    from maxminddb.reader import Reader

    from serving.settings import Settings

log = logging.getLogger("kairos.http")

LOOK_EVERY_MS: Final = 60_000
CACHE: Final = 8192
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Place(NamedTuple):
    """What the file says of an address. Degrees are given only where they are close enough to mean a place."""

    country: str | None = None
    city: str | None = None
    lat: float | None = None
    lon: float | None = None
    timezone: str | None = None


NOWHERE: Final = Place()


class Proxies:
    """Whose word counts about the address of a client: the proxies in front of Kairos, by network."""

    def __init__(self, trusted: Iterable[str]) -> None:
        try:
            self._trusted: list[Network] = [ipaddress.ip_network(network, strict=False) for network in trusted]
        except ValueError as error:
            raise InvalidInput("bad_settings", f"trusted_proxies: {error}, e.g. 10.0.0.0/8") from None

    def trusts(self, address: str) -> bool:
        """Whether this is one of the proxies."""
        found = _address(address)
        return found is not None and any(found in network for network in self._trusted)

    def client(self, peer: str | None, forwarded: str | None) -> str | None:
        """The address furthest from here that only trusted proxies vouch for, None where there is none.

        `peer` is who holds the connection, `forwarded` the X-Forwarded-For header; read from its right end, since
        its left is whatever the client wrote.
        """
        found = None if peer is None else _bare(peer)
        for claimed in reversed((forwarded or "").split(",")[-32:]):
            if found is None or not self.trusts(found):
                break
            if (stated := _bare(claimed)) is not None:
                found = stated
        return found


class Places:
    """Looks addresses up; opened again when the file has been replaced (by a rename, since it is mapped into memory).

    `accuracy_km` is how vague a place may be.
    """

    def __init__(self, path: Path, proxies: Proxies, accuracy_km: float) -> None:
        self._path, self._accuracy_km = path, accuracy_km
        self.proxies = proxies
        self._stamp = self._stamped()
        self._reader = _opened(path)
        self._next_look_ms = 0
        self._find = lru_cache(maxsize=CACHE)(self._read)

    def of(self, peer: str | None, forwarded: str | None, now_ms: int) -> Place:
        """Where the client is, as far as the file knows."""
        if now_ms >= self._next_look_ms:
            self._look_again(now_ms)
        address = self.proxies.client(peer, forwarded)
        return NOWHERE if address is None else self._find(address)

    def _read(self, address: str) -> Place:
        try:
            row: Any = self._reader.get(address)
        except ValueError:
            return NOWHERE
        if not isinstance(row, dict):
            return NOWHERE
        location = row.get("location")
        location = location if isinstance(location, dict) else {}
        country, city = (_dict(row, "country") or _dict(row, "registered_country")), _dict(row, "city")
        iso, zone = country.get("iso_code"), location.get("time_zone")
        name = _dict(city, "names").get("en")
        lat, lon = location.get("latitude"), location.get("longitude")
        radius = location.get("accuracy_radius")
        close = isinstance(radius, int | float) and radius <= self._accuracy_km
        if not (close and isinstance(lat, int | float) and isinstance(lon, int | float)):
            lat = lon = None
        return Place(
            iso if isinstance(iso, str) else None, name if isinstance(name, str) else None,
            lat, lon, zone if isinstance(zone, str) else None,
        )  # fmt: skip

    def _look_again(self, now_ms: int) -> None:
        self._next_look_ms = now_ms + LOOK_EVERY_MS
        stamp = self._stamped()
        if stamp == self._stamp or stamp is None:
            return
        self._stamp = stamp
        try:
            self._reader = _opened(self._path)
        except InvalidInput as error:
            # A file half written: the old one goes on, the next look comes in a minute.
            log.warning("%s", error.message)
            return
        self._find.cache_clear()

    def _stamped(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def places_of(settings: Settings) -> Places | None:
    """The places of the settings; None where no file is configured.

    Raises:
        InvalidInput: `bad_geoip_file`, `geoip_missing`, `bad_settings` (a proxy that is no network).
    """
    proxies = Proxies(settings.trusted_proxies)
    if settings.geoip.file is None:
        return None
    return Places(settings.geoip.file, proxies, settings.geoip.accuracy_km)


def _opened(path: Path) -> Reader:
    try:
        import maxminddb
    except ImportError:
        raise InvalidInput(
            "geoip_missing", "geoip.file is set, and maxminddb is not installed: pip install 'kairos[geoip]'"
        ) from None
    try:
        return maxminddb.open_database(path)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise InvalidInput("bad_geoip_file", f"geoip.file: {path}: {error}") from None


def _dict(row: dict[str, Any], name: str) -> dict[str, Any]:
    found = row.get(name)
    return found if isinstance(found, dict) else {}


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _bare(claimed: str) -> str | None:
    """An address of X-Forwarded-For without port and brackets; None for anything else."""
    text = claimed.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    found = _address(text)
    return None if found is None else str(found)
