"""Signed tokens: a few values and an end, which whoever has the key can check without asking anybody.

`<what>.<payload>.<mac>`: payload is base64url (no padding) of compact JSON, mac the first 16 bytes of
HMAC-SHA256(key, "<what>.<payload>"), base64url. A token is worth something until `expires_ms`, its last value.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

REDEMPTION, PREVIEW = "kr1", "kp1"
MAX_TOKEN: Final = 1024
_MAC_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Redemption:
    """What a redemption token says: which offer of which decision, what it takes off, and until when."""

    decision_id: str
    campaign: str
    offer: str
    amount: float | None
    expires_ms: int


def sign(what: str, values: Sequence[Any], key: bytes) -> str:
    """A token over these values, of which the last is the end in epoch ms."""
    payload = _text(json.dumps(list(values), separators=(",", ":"), ensure_ascii=False).encode())
    return f"{what}.{payload}.{_mac(f'{what}.{payload}', key)}"


def read(what: str, token: object, key: bytes) -> list[Any] | None:
    """The values of a token of this kind signed with this key, whether it has ended or not; None otherwise."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN or not token.isascii():
        return None
    body, _, mac = token.rpartition(".")
    if not body.startswith(what + ".") or not hmac.compare_digest(mac, _mac(body, key)):
        return None
    try:
        values = json.loads(urlsafe_b64decode(_padded(body[len(what) + 1 :])))
    except ValueError:
        return None
    return values if isinstance(values, list) and values and isinstance(values[-1], int) else None


def redemption_token(redemption: Redemption, key: bytes) -> str:
    """The token a visitor is given with an offer that can be redeemed."""
    r = redemption
    return sign(REDEMPTION, (r.decision_id, r.campaign, r.offer, r.amount, r.expires_ms), key)


def read_redemption(token: object, key: bytes) -> Redemption | None:
    """What a redemption token says; None for what was not signed with this key."""
    values = read(REDEMPTION, token, key)
    return Redemption(*values) if values is not None and len(values) == 5 else None


def _mac(body: str, key: bytes) -> str:
    return _text(hmac.digest(key, body.encode(), "sha256")[:_MAC_BYTES])


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _padded(text: str) -> bytes:
    return (text + "=" * (-len(text) % 4)).encode()
