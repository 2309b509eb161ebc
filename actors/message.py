"""What a destination is sent: the body of a webhook, its signature, and how long to wait before the next try."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NamedTuple

import orjson

from engine.ids import ANON, DEVICE, EMAIL, USER, profile_id
from engine.transitions import Transition

SIGNATURE, IDEMPOTENCY, ATTEMPT = "kairos-signature", "idempotency-key", "kairos-attempt"
HOPELESS: Final = frozenset({400, 404, 405, 410, 413, 415, 422})
"""Answers that the same message will get again: it is laid aside at once."""
_NAMED: Final = {ANON: "anonymousId", DEVICE: "deviceId", EMAIL: "emailSha256", USER: "userId"}
"""What the most personal identity of a profile is called in a message."""
EVENTS: Final = {"enter": "segment.entered", "leave": "segment.left"}


class Answer(NamedTuple):
    """What a destination said: an HTTP status, 0 where it could not be reached, and how long it asks to be spared."""

    status: int
    retry_after_s: float = 0.0
    error: str = ""

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300


Post = Callable[[str, bytes, Mapping[str, str], float], Awaitable[Answer]]
"""POST to (url, body, headers) within so many seconds; never raises for the sake of the destination."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a book's webhooks of one name go. The secret never stands in a book."""

    name: str
    url: str
    secret: bytes = field(repr=False)
    timeout_s: float = 5.0
    tries: int = 8
    first_wait_s: float = 1.0
    longest_wait_s: float = 300.0

    def wait_s(self, tried: int, chance: float, asked_s: float = 0.0) -> float:
        """How long to wait after so many tries: doubled each time, with jitter (`chance` 0–1), or longer if asked.

        >>> [Destination("d", "", b"").wait_s(n, 1.0) for n in (1, 2, 3, 20)]
        [1.0, 2.0, 4.0, 300.0]
        """
        longest = min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(tried - 1, 60))
        return max(longest * (0.5 + 0.5 * chance), min(asked_s, self.longest_wait_s))


def body_of(transition: Transition) -> bytes:
    """The message as JSON: the same bytes for the same transition."""
    root = transition.root
    identity = {name: root[len(kind) :] for kind, name in _NAMED.items() if root.startswith(kind)}
    return orjson.dumps(
        {
            "type": EVENTS[transition.kind], "id": transition.key, "timestamp": _iso(transition.at_ms),
            "profileId": profile_id(root), **identity, "campaign": transition.campaign,
            "segment": transition.segment, "since": _iso(transition.since_ms),
        }
    )  # fmt: skip


def headers_of(
    transition: Transition, body: bytes, destination: Destination, now_ms: int, tried: int
) -> dict[str, str]:
    """Signature, idempotency key, and which try it is."""
    return {
        "content-type": "application/json",
        SIGNATURE: sign(body, destination.secret, now_ms // 1000),
        IDEMPOTENCY: transition.key,
        ATTEMPT: str(tried),
    }


def sign(body: bytes, secret: bytes, at_s: int) -> str:
    """`t=<seconds>,v1=<HMAC-SHA256 of "seconds.body" in hex>`: the time is signed, so that old ones are refused."""
    mac = hmac.new(secret, str(at_s).encode() + b"." + body, sha256)
    return f"t={at_s},v1={mac.hexdigest()}"


def verify(header: str, body: bytes, secret: bytes, now_s: float, within_s: float = 300.0) -> bool:
    """Whether a signature is ours and not older than so long: what a receiver has to do.

    >>> verify(sign(b"{}", b"secret", 1000), b"{}", b"secret", 1010)
    True
    >>> verify(sign(b"{}", b"secret", 1000), b"[]", b"secret", 1010)
    False
    """
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    if not parts.get("t", "").isdigit() or abs(now_s - int(parts["t"])) > within_s:
        return False
    return hmac.compare_digest(sign(body, secret, int(parts["t"])), header)


def _iso(t_ms: int) -> str:
    return datetime.fromtimestamp(t_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
