"""Where an address is: only through proxies that are trusted, only with consent, and the address stays nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from engine.errors import InvalidInput
from serving.context import ContextReader, Hints
from serving.places import LOOK_EVERY_MS, NOWHERE, Places, Proxies, places_of
from serving.settings import Settings, load_settings
from serving.settings_branches import Geoip
from tests.serving.house import NOW_MS, House

BERLIN = {
    "country": {"iso_code": "DE"}, "city": {"names": {"en": "Berlin"}},
    "location": {"latitude": 52.52, "longitude": 13.405, "accuracy_radius": 20, "time_zone": "Europe/Berlin"},
}  # fmt: skip
VAGUE = {
    "registered_country": {"iso_code": "US"},
    "location": {"latitude": 1.0, "longitude": 2.0, "accuracy_radius": 1000},
}


def mmdb(path: Path, **networks: Any) -> Path:
    netaddr, writer = pytest.importorskip("netaddr"), pytest.importorskip("mmdb_writer")
    made = writer.MMDBWriter(6, "Test-City", languages=["en"], ipv4_compatible=True)
    for network, row in networks.items():
        made.insert_network(netaddr.IPSet([network]), row)
    made.to_db_file(str(path.with_suffix(".new")))
    return path.with_suffix(".new").replace(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return mmdb(tmp_path / "city.mmdb", **{"203.0.113.0/24": BERLIN, "198.51.100.0/24": VAGUE, "2001:db8::/32": BERLIN})


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"), ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"), ("127.0.0.1", "6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9:5123", "203.0.113.9"), ("127.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:127.0.0.1", "203.0.113.9", "203.0.113.9"), ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"), (None, "203.0.113.9", None),
    ],
)  # fmt: skip
def test_an_address_is_taken_from_a_header_only_as_far_as_trusted_proxies_vouch_for_it(
    peer: str | None, forwarded: str | None, client: str | None
) -> None:
    assert Proxies(["127.0.0.0/8", "10.0.0.0/8"]).client(peer, forwarded) == client


def test_a_place_vaguer_than_asked_for_gives_its_country_and_no_degrees(file: Path) -> None:
    places = Places(file, Proxies([]), accuracy_km=50)
    assert places.of("203.0.113.9", None, NOW_MS) == ("DE", "Berlin", 52.52, 13.405, "Europe/Berlin")
    assert places.of("2001:db8::7", None, NOW_MS).city == "Berlin"
    assert places.of("198.51.100.1", None, NOW_MS) == ("US", None, None, None, None)
    assert places.of("192.0.2.1", None, NOW_MS) is NOWHERE
    assert places.of("no address", None, NOW_MS) is NOWHERE


def test_a_file_that_was_replaced_is_read_anew_and_a_broken_one_leaves_the_old(file: Path) -> None:
    places = Places(file, Proxies([]), accuracy_km=50)
    assert places.of("192.0.2.1", None, NOW_MS) is NOWHERE
    mmdb(file, **{"192.0.2.0/24": BERLIN})
    assert places.of("192.0.2.1", None, NOW_MS + LOOK_EVERY_MS).country == "DE"
    broken = file.with_suffix(".broken")
    broken.write_bytes(b"no such thing")
    broken.replace(file)
    assert places.of("192.0.2.1", None, NOW_MS + 2 * LOOK_EVERY_MS).country == "DE"


def test_what_the_request_says_of_itself_wins_over_its_address(file: Path) -> None:
    reader = ContextReader(places=Places(file, Proxies([]), 50))
    hints = Hints(peer="203.0.113.9")
    found = reader.read({}, hints, NOW_MS)
    told = [found[name] for name in ("country", "city", "lat", "timezone", "local_hour")]
    assert told == ["DE", "Berlin", 52.52, "Europe/Berlin", 14]
    own = reader.read({"location": {"country": "fr"}, "timezone": "Asia/Tokyo"}, hints, NOW_MS)
    assert (own["country"], own["city"], own["lat"], own["timezone"]) == ("FR", None, None, "Asia/Tokyo")
    assert reader.read({}, hints, NOW_MS, locate=False)["country"] is None


def test_a_file_or_a_proxy_that_is_none_is_named_at_the_start(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mmdb"
    bad.write_bytes(b"nothing")
    for settings, code in (
        (Settings(geoip=Geoip(file=tmp_path / "absent")), "bad_geoip_file"),
        (Settings(geoip=Geoip(file=bad)), "bad_geoip_file"),
        (Settings(trusted_proxies=("proxy.example",)), "bad_settings"),
    ):
        with pytest.raises(InvalidInput) as raised:
            places_of(settings)
        assert raised.value.code == code
    assert places_of(Settings()) is None
    assert load_settings(None, {"KAIROS_TRUSTED_PROXIES": "10.0.0.0/8,::1"}).trusted_proxies == ("10.0.0.0/8", "::1")


async def test_over_http_the_place_is_recorded_and_the_address_goes_nowhere(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(Settings(geoip=Geoip(file=file), trusted_proxies=("127.0.0.1",)))
    body = {"anonymousId": "a", "placement": "p"}
    headers = {"x-forwarded-for": "203.0.113.9"}
    async with house.client as client:
        await client.post("/v1/decide", json=body, headers=headers)
        assert house.asks.payload("decide")["context"]["city"] == "Berlin"
        await client.post("/v1/track", json={"anonymousId": "a", "event": "click"}, headers=headers)
        assert house.asks.payload("observe")["context"]["country"] == "DE"
        gpc: httpx.Response = await client.post("/v1/decide", json=body, headers={**headers, "sec-gpc": "1"})
        assert gpc.status_code == 200
        assert house.asks.payload("decide")["context"]["country"] is None
    assert "203.0.113" not in orjson.dumps([payload for _, _, payload in house.asks.log]).decode()
    assert "203.0.113" not in caplog.text
