"""The network from what is measured, and the device and browser from client hints."""

from __future__ import annotations

from typing import Any

import pytest

from serving.context import ContextReader, Hints
from tests.serving.test_context import ANDROID_TABLET, IPHONE, NOW_MS, WINDOWS

CHROME = '"Chromium";v="124", "Google Chrome";v="124", "Not-A.Brand";v="99"'


def read(context: Any = None, **hints: str) -> dict[str, Any]:
    return ContextReader().read(context, Hints(**hints), NOW_MS)


@pytest.mark.parametrize(
    ("network", "hints", "expected"),
    [
        ({"rtt": 300}, {}, "3g"), ({"rtt": 50, "downlink": 10}, {}, "4g"), ({"rtt": 50, "downlink": 0.06}, {}, "2g"),
        ({"rtt": 2500, "downlink": 10}, {}, "slow-2g"), ({"rtt": 0, "downlink": 0}, {}, "unknown"),
        ({"rtt": True}, {}, "unknown"), ({"rtt": -5}, {}, "unknown"), ({"rtt": "300"}, {}, "unknown"),
        ({}, {"rtt": "1500"}, "2g"), ({}, {"rtt": "x", "downlink": "0.3"}, "3g"), ({}, {"rtt": "nan"}, "unknown"),
        ({"rtt": 50}, {"rtt": "1500"}, "4g"), ({"effectiveType": "4g", "rtt": 2500}, {}, "4g"),
        ({"wifi": True, "rtt": 300}, {}, "3g"), ({"wifi": True, "rtt": 30}, {}, "wifi"),
        ({"requestMs": 420, "serverMs": 30}, {}, "3g"), ({"requestMs": 60, "serverMs": 300}, {}, "unknown"),
        ({"requestMs": 80}, {}, "4g"), ({"cellular": True, "requestMs": 1700}, {}, "2g"),
        ({"type": "5g", "effectiveType": "4g"}, {}, "5g"), ({"type": "5g", "effectiveType": "3g"}, {}, "3g"),
    ],
)  # fmt: skip
def test_a_measured_network_has_a_generation(network: dict[str, Any], hints: dict[str, str], expected: str) -> None:
    assert read({"network": network}, **hints)["network"] == expected


def test_brands_name_the_browser_that_its_agent_hides() -> None:
    brave = '"Chromium";v="124", "Brave";v="124", "Not:A-Brand";v="8"'
    assert read({}, user_agent=WINDOWS, brands=brave)["browser"] == "Brave"
    assert read({}, user_agent=WINDOWS, brands=CHROME)["browser"] == "Chrome"
    assert read({}, user_agent=WINDOWS, brands='"Not A;Brand";v="99", "Microsoft Edge";v="124"')["browser"] == "Edge"
    assert read({}, user_agent=WINDOWS, brands='"Chromium";v="1"')["browser"] == "Chromium"
    for nothing in ("", "?", '"Not A;Brand";v="99"', '"' * 600):
        assert read({}, user_agent=WINDOWS, brands=nothing)["browser"] == "Chrome"
    data = {"brands": [{"brand": "Not=A?Brand"}, {"brand": "Opera"}, 5]}
    assert read({"userAgent": WINDOWS, "userAgentData": data})["browser"] == "Opera"


def test_the_parsers_own_name_of_the_same_browser_stays() -> None:
    phone = (
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/124.0.0.0 Mobile Safari/537.36"
    )
    assert read({}, user_agent=phone, brands=CHROME)["browser"] == "Chrome Mobile"


def test_a_headless_brand_is_a_bot_whatever_its_agent_says() -> None:
    found = read({}, user_agent=WINDOWS, brands='"HeadlessChrome";v="124", "Chromium";v="124"')
    assert (found["bot"], found["device"]) == (True, "bot")


def test_the_form_factor_says_which_device_it_is() -> None:
    assert read({}, user_agent=WINDOWS, mobile="?0", form_factors='"Tablet"')["device"] == "tablet"
    assert read({}, user_agent=ANDROID_TABLET, form_factors='"EInk", "Mobile"')["device"] == "mobile"
    assert read({}, user_agent=IPHONE, form_factors='"XR"')["device"] == "mobile"
    assert read({"userAgent": WINDOWS, "userAgentData": {"formFactors": ["Tablet", 3]}})["device"] == "tablet"
