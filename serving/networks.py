"""What connection a visitor has: from the browser's Network Information, its hint headers, or a measured request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

GENERATIONS: Final = frozenset({"slow-2g", "2g", "3g", "4g", "5g"})
SLOW: Final = frozenset({"slow-2g", "2g", "3g"})
_BY_RTT_MS: Final = ((2000.0, "slow-2g"), (1400.0, "2g"), (270.0, "3g"))
_BY_DOWNLINK_MBPS: Final = ((0.05, "slow-2g"), (0.07, "2g"), (0.7, "3g"))
"""Least round-trip time and most throughput of each effective type.

Source: https://wicg.github.io/netinfo/#effective-connection-types
"""
_ORDER: Final = ("slow-2g", "2g", "3g", "4g")


def network_of(
    network: Mapping[str, Any],
    *,
    effective_type: str | None = None,
    rtt: str | None = None,
    downlink: str | None = None,
) -> str:
    """The network in the words of the context; the keywords are the headers ECT, RTT and Downlink.

    `network` is the context's: Network Information's `effectiveType`, `rtt` (ms), `downlink` (Mbit/s), `type`, or
    Segment's `wifi` and `cellular`. Where a browser has none of it (Safari, Firefox) a page can measure: `requestMs`,
    how long a small request took on an open connection, less `serverMs` of its Server-Timing, is a round trip.
    A slow measurement says more about what can be loaded than the name of the radio.
    """
    effective = network.get("effectiveType") or effective_type
    if not isinstance(effective, str) or effective not in GENERATIONS:
        effective = _measured(network, rtt, downlink)
    kind = network.get("type")
    if effective in SLOW:
        return str(effective)
    if network.get("wifi") is True or kind == "wifi":
        return "wifi"
    if network.get("ethernet") is True or kind == "ethernet":
        return "ethernet"
    if isinstance(kind, str) and kind.lower() in GENERATIONS and effective in (None, "4g"):
        # Browsers call everything fast 4g; a named generation says more.
        return kind.lower()
    if effective is not None:
        return effective
    # Cellular without a generation: 4G is by far the likeliest.
    return "4g" if network.get("cellular") is True or kind == "cellular" else "unknown"


def _measured(network: Mapping[str, Any], rtt: str | None, downlink: str | None) -> str | None:
    """The worse of what round trip and throughput say, None where neither is known."""
    rtt_ms = _number(network.get("rtt"))
    if rtt_ms is None and rtt is not None:
        rtt_ms = _parsed(rtt)
    if rtt_ms is None and (request_ms := _number(network.get("requestMs"))) is not None:
        rtt_ms = max(0.0, request_ms - (_number(network.get("serverMs")) or 0.0))
    mbps = _number(network.get("downlink"))
    if mbps is None and downlink is not None:
        mbps = _parsed(downlink)
    # Browsers say 0 for what they do not know yet.
    by_rtt = next((name for least, name in _BY_RTT_MS if rtt_ms >= least), "4g") if rtt_ms else None
    by_speed = next((name for most, name in _BY_DOWNLINK_MBPS if mbps <= most), "4g") if mbps else None
    known = [name for name in (by_rtt, by_speed) if name is not None]
    return min(known, key=_ORDER.index) if known else None


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    return None


def _parsed(header: str) -> float | None:
    try:
        return _number(float(header[:16]))
    except ValueError:
        return None
