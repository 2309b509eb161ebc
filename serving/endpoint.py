"""One call over HTTP: authorise, read, handle, answer, count. A raw ASGI endpoint, because it is the hot path."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from starlette.types import Receive, Scope, Send

from actors.asking import Asks
from engine.errors import Forbidden, KairosError
from serving.agreements import Agreements
from serving.alarms import Alarms
from serving.bodies import ClientGone, HeaderMap, drain, read_body
from serving.consent import ConsentReader
from serving.context import ContextReader, Hints
from serving.first_party import FirstParty
from serving.keys import KeyRing
from serving.meters import Meters
from serving.offer_keys import OfferKeys
from serving.ports import Clock, ExperimentResults, RolloutDesk, Trainings, Worlds
from serving.problems import Headers, Reply, problem, problem_of
from serving.settings import Settings, is_loopback
from serving.tier1 import Tier1
from serving.trace import traceparent

log = logging.getLogger("kairos.http")

_ENCODING: Final = "latin-1"
_HINTS: Final = {
    b"user-agent": "user_agent", b"sec-ch-ua-mobile": "mobile", b"sec-ch-ua-platform": "platform",
    b"save-data": "save_data", b"ect": "effective_type", b"accept-language": "language", b"sec-ch-ua": "brands",
    b"sec-ch-ua-form-factors": "form_factors", b"rtt": "rtt", b"downlink": "downlink", b"x-forwarded-for": "forwarded",
}  # fmt: skip
"""Headers that say something of the visitor's device, and the hint that each is."""
EXPOSED: Final = b"server-timing, traceparent, retry-after"


@dataclass(frozen=True, slots=True)
class Room:
    """What every endpoint works with."""

    asks: Asks
    worlds: Worlds
    settings: Settings
    keys: KeyRing
    clock: Clock
    message_key: bytes
    dice: random.Random
    meters: Meters
    contexts: ContextReader
    consents: ConsentReader
    tier1: Tier1
    agreements: Agreements
    first_party: FirstParty | None
    trainings: Trainings | None = None
    experiments: ExperimentResults | None = None
    rollouts: RolloutDesk | None = None
    offer_keys: OfferKeys = field(default_factory=OfferKeys)
    alarms: Alarms = field(default_factory=Alarms)


class Call(NamedTuple):
    """A request, authorised and read."""

    scope: Scope
    headers: HeaderMap
    body: bytes
    received_ms: int
    started: float
    """`perf_counter` when the request arrived."""

    def header(self, name: bytes) -> str | None:
        """A header's value."""
        value = self.headers.get(name)
        return None if value is None else value.decode(_ENCODING)

    def hints(self) -> Hints:
        """The headers about the visitor's device, and who sent them."""
        headers, peer = self.headers, self.scope.get("client")
        told = {_HINTS[name]: headers[name].decode(_ENCODING) for name in _HINTS.keys() & headers.keys()}
        return Hints(**told, peer=None if peer is None else peer[0])

    def query(self, name: str) -> str | None:
        """The first value of a query parameter."""
        raw: bytes = self.scope.get("query_string", b"")
        if not raw:
            return None
        values = parse_qs(raw.decode(_ENCODING), keep_blank_values=True, max_num_fields=64).get(name)
        return values[0] if values else None

    def part(self, name: str) -> str:
        """A part of the path."""
        value: Any = self.scope["path_params"][name]
        return str(value)


Handler = Callable[[Call], Awaitable[Reply]]


class Endpoint:
    """An ASGI application for one method and path.

    `access` is the scope a key must have, None for an open endpoint; `limit` the most bytes of a body, None for a
    call without one; `cors` lets pages of the configured origins call it.
    """

    def __init__(
        self, room: Room, route: str, handle: Handler, *, access: str | None, limit: int | None = None
    ) -> None:
        self._room, self._route, self._handle = room, route, handle
        self._access, self._limit = access, limit
        self._timeout_s = room.settings.body.read_timeout_s
        self.cors = access in ("write", "decide")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever happens, exactly one response is sent."""
        started, room = perf_counter(), self._room
        received_ms = room.clock()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        unread = self._limit is not None
        try:
            self._authorise(headers)
            body = b""
            if self._limit is not None:
                unread = False
                body = await read_body(receive, headers, self._limit, self._timeout_s, room.alarms)
            reply = await self._handle(Call(scope, headers, body, received_ms, started))
        except KairosError as error:
            reply = problem_of(error)
        except ClientGone:
            return
        except Exception:
            log.exception("%s failed", self._route)
            reply = problem(500, "internal", "an error in Kairos; it has been logged")
        if unread:
            await drain(receive, headers)
        room.meters.request(self._route, reply.status, perf_counter() - started)
        out: Headers = [
            *reply.headers,
            (b"content-length", b"%d" % len(reply.body)),
            (b"traceparent", traceparent(headers.get(b"traceparent"), room.dice.getrandbits)),
        ]
        if self.cors and b"origin" in headers:
            keeps = room.first_party is not None
            out += cors_headers(room.settings.origins, headers[b"origin"], credentials=keeps)
        await send({"type": "http.response.start", "status": reply.status, "headers": out})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.body})

    def _authorise(self, headers: HeaderMap) -> None:
        if self._access is None:
            return
        keys = self._room.keys
        if keys.open:
            if self._access == "admin" and b"origin" in headers:
                check_local_origin(headers)
            return
        given = headers.get(b"authorization")
        if self._access not in keys.scopes_of(None if given is None else given.decode(_ENCODING)):
            raise Forbidden("missing_scope", f"this key does not open {self._access!r} calls")


def check_local_origin(headers: HeaderMap) -> None:
    """Refuse a page that is not of this machine, where no key is asked for.

    Raises:
        Forbidden: `cross_origin`.
    """
    # Without keys a page somebody has open could otherwise administer the Kairos on their own machine.
    origin = headers[b"origin"].decode(_ENCODING)
    parts = urlsplit(origin) if origin.count("[") == origin.count("]") else urlsplit("")
    host = headers.get(b"host", b"").decode(_ENCODING)
    if parts.netloc != host and not is_loopback(parts.hostname or ""):
        raise Forbidden("cross_origin", f"Origin: found {origin[:80]!r}, expected a page of this machine")


def cors_headers(origins: tuple[str, ...], origin: bytes, *, credentials: bool = False) -> Headers:
    """The headers that let a page of a configured origin read the answer; none for others.

    `credentials`: pages of origins that are named, not merely any, may send their cookie.
    """
    if credentials and origin.decode(_ENCODING) in origins:
        allow = (b"access-control-allow-credentials", b"true")
        return [allow, *cors_headers(origins, origin)]
    if "*" not in origins and origin.decode(_ENCODING) not in origins:
        return [(b"vary", b"origin")]
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", EXPOSED),
        (b"vary", b"origin"),
    ]
