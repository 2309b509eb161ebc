"""Who shops: devices, places and habits of one simulated person, and the state of one visit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from engine.simulation.truth import Truth


@dataclass(frozen=True, slots=True)
class Device:
    """One browser or app, with the anonymous id it keeps."""

    anonymous_id: str
    os: str
    user_agent: str
    network: str
    width_px: int
    height_px: int


@dataclass(slots=True)
class Shopper:
    """One person. `temper` (an index into `Truth.tempers`) is hidden; counts grow as visits go by."""

    index: int
    name: str
    temper: int
    devices: tuple[Device, ...]
    user_id: str | None
    locale: str
    timezone: str
    member: bool
    consents: bool
    bot: bool
    n_carts_left: int = 0
    n_purchases: int = 0
    signed_in: set[str] = field(default_factory=set)


@dataclass(slots=True)
class State:
    """What has happened on a visit so far; everything here also shows in the events that were sent."""

    os: str
    slow_network: bool
    n_past_carts: int
    n_past_purchases: int
    depth: float = 0.0
    """Mean share really read of the product pages so far (fleeting scrolls and noise left out)."""
    time_s: float = 0.0
    n_products: int = 0
    cart: dict[str, tuple[float, int]] = field(default_factory=dict)
    checkout_step: int = 0
    offer: str | None = None
    """The offer shown last, if any."""

    @property
    def cart_value(self) -> float:
        """Price times quantity over the cart."""
        return sum(price * quantity for price, quantity in self.cart.values())


_IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/17.5 Mobile/15E148 Safari/604.1"
)
_ANDROID = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/125.0.0.0 Mobile Safari/537.36"
)
_WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36"
)
_MAC = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/17.5 Safari/605.1.15"
)
_BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

_SYSTEMS: tuple[tuple[str, float, str, int, int], ...] = (
    ("ios", 0.36, _IPHONE, 390, 844),
    ("android", 0.38, _ANDROID, 412, 915),
    ("windows", 0.18, _WINDOWS, 1536, 864),
    ("macos", 0.08, _MAC, 1440, 900),
)
_NETWORKS_MOBILE = (("wifi", 0.45), ("4g", 0.35), ("5g", 0.10), ("3g", 0.10))
_NETWORKS_DESK = (("wifi", 0.7), ("ethernet", 0.3))
_RADIOS = ("wifi", "ethernet")
_PLACES = (
    ("de-DE", "Europe/Berlin", 0.4),
    ("fr-FR", "Europe/Paris", 0.2),
    ("en-GB", "Europe/London", 0.2),
    ("pl-PL", "Europe/Warsaw", 0.1),
    ("en-US", "America/New_York", 0.1),
)


def draw_shopper(truth: Truth, index: int, name: str, rng: np.random.Generator) -> Shopper:
    """A new person of the world `name`; the same generator state gives the same person."""
    bot = bool(rng.random() < truth.bot_share)
    n_devices = 1 if bot or rng.random() >= truth.second_device_share else 2
    devices = tuple(_draw_device(f"{name}-{index}-{k}", bot, rng) for k in range(n_devices))
    locale, timezone, _ = _PLACES[_pick([p[2] for p in _PLACES], rng)]
    known = not bot and bool(rng.random() < truth.known_share)
    return Shopper(
        index=index,
        name=f"{name}-{index}",
        temper=_pick([t.share for t in truth.tempers], rng),
        devices=devices,
        user_id=f"{name}-u{index}" if known else None,
        locale=locale,
        timezone=timezone,
        member=known and bool(rng.random() < 0.3),
        consents=bot or bool(rng.random() >= truth.no_consent_share),
        bot=bot,
    )


def context_of(shopper: Shopper, device: Device, url: str) -> dict[str, Any]:
    """The `context` that this person's browser would send from this page."""
    context: dict[str, Any] = {
        "userAgent": device.user_agent,
        "locale": shopper.locale,
        "timezone": shopper.timezone,
        "network": {device.network: True} if device.network in _RADIOS else {"effectiveType": device.network},
        "screen": {"width": device.width_px, "height": device.height_px},
        "page": {"url": url},
    }
    if not shopper.consents:
        preferences = {"analytics": True, "personalisation": False, "training": False}
        context["consent"] = {"categoryPreferences": preferences}
    return context


def _draw_device(anonymous_id: str, bot: bool, rng: np.random.Generator) -> Device:
    os, _, agent, width, height = _SYSTEMS[_pick([s[1] for s in _SYSTEMS], rng)]
    networks = _NETWORKS_MOBILE if os in ("ios", "android") else _NETWORKS_DESK
    network = networks[_pick([n[1] for n in networks], rng)][0]
    return Device(anonymous_id, os, _BOT if bot else agent, network, width, height)


def _pick(weights: list[float], rng: np.random.Generator) -> int:
    bounds = np.cumsum(weights)
    return int(min(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"), len(weights) - 1))
