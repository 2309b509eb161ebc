"""The HTTP application: every route of the contract, wired to what answers it."""

from __future__ import annotations

import random
import secrets
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.asking import Asks
from engine.errors import NotFound
from engine.events import TYPES
from serving.agents import AgentReader
from serving.agreements import Agreements
from serving.consent import ConsentReader
from serving.context import ContextReader
from serving.endpoint import Endpoint, Handler, Room, cors_headers
from serving.first_party import FirstParty
from serving.keys import KeyRing
from serving.meters import Meters
from serving.offer_keys import OfferKeys
from serving.places import Proxies, places_of
from serving.ports import Clock, ExperimentResults, Readiness, RolloutDesk, Trainings, Worlds
from serving.problems import Reply, WrongMethod, problem, problem_of
from serving.routes_about import About
from serving.routes_books import Books
from serving.routes_catalogue import Catalogue
from serving.routes_decide import Deciding
from serving.routes_experiments import ExperimentCalls
from serving.routes_id import VisitorId
from serving.routes_observe import Observing
from serving.routes_profiles import Profiles, Records
from serving.routes_redemptions import Redemptions
from serving.routes_rollouts import VERBS, RolloutCalls
from serving.routes_tier1 import Tier1Told
from serving.routes_train import Training
from serving.settings import Settings
from serving.tier1 import Tier1

SMALL: Final = 32 * 1024
"""Most bytes of a body that only names things."""
HOT: Final = ("/v1/decide", "/v1/batch")
# RudderStack's SDK for browsers sends an AnonymousId header with every event.
_PREFLIGHT: Final = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, content-encoding, traceparent, anonymousid"),
    (b"access-control-max-age", b"86400"),
]


class KairosApp(Starlette):
    """Starlette, with the two hot routes found before its middleware and router are asked."""

    hot: dict[str, Endpoint]
    origins: tuple[str, ...]
    credentials: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http":
            if scope["method"] == "POST" and (endpoint := self.hot.get(scope["path"])) is not None:
                await endpoint(scope, receive, send)
                return
            if scope["method"] == "OPTIONS" and (reply := self._preflight(scope)) is not None:
                await _send(reply, send)
                return
        await super().__call__(scope, receive, send)

    def _preflight(self, scope: Scope) -> Reply | None:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is None or b"access-control-request-method" not in headers:
            return None
        allowed = cors_headers(self.origins, origin, credentials=self.credentials)
        return Reply(204, b"", [*allowed, *_PREFLIGHT]) if len(allowed) > 1 else None


def build_app(
    asks: Asks,
    worlds: Worlds,
    settings: Settings,
    keys: KeyRing,
    *,
    clock: Clock,
    message_key: bytes,
    readiness: Readiness | None = None,
    dice: random.Random | None = None,
    trainings: Trainings | None = None,
    experiments: ExperimentResults | None = None,
    rollouts: RolloutDesk | None = None,
    tier1: Tier1 | None = None,
    offer_keys: OfferKeys | None = None,
    agents: AgentReader | None = None,
) -> Starlette:
    """Make the application.

    `message_key` hashes message ids and must be the same in every ingress of a data set; `dice` makes span ids and
    the hashes of events without a `messageId`. Whom to ask for Tier 1's suggestions is told to `tier1`.

    Raises:
        InvalidInput: `keys_required`, for a bind beyond loopback without keys.
    """
    keys.check_bind(settings)
    meters = Meters()
    room = Room(
        asks=asks, worlds=worlds, settings=settings, keys=keys, clock=clock, message_key=message_key,
        dice=dice or random.Random(secrets.randbits(128)), meters=meters,
        contexts=ContextReader(agents, places_of(settings)), consents=ConsentReader(settings.consent),
        trainings=trainings, experiments=experiments, rollouts=rollouts, offer_keys=offer_keys or OfferKeys(),
        tier1=tier1 or Tier1(settings.tier1), agreements=Agreements(meters.registry),
        first_party=_first_party(settings),
    )  # fmt: skip
    routes = _routes(room, readiness)
    app = KairosApp(routes=routes, exception_handlers={HTTPException: _refuse})
    app.hot = {
        path: endpoint for r in routes if (path := r.path) in HOT and isinstance(endpoint := r.endpoint, Endpoint)
    }
    app.origins, app.credentials = settings.origins, room.first_party is not None
    app.router.redirect_slashes = False
    return app


def _first_party(settings: Settings) -> FirstParty | None:
    if not settings.first_party.enabled:
        return None
    return FirstParty(settings.first_party, Proxies(settings.trusted_proxies), ConsentReader(settings.consent))


def _routes(room: Room, readiness: Readiness | None) -> list[Route]:
    observing, deciding, books = Observing(room), Deciding(room), Books(room)
    records, profiles, about = Records(room), Profiles(room), About(room, readiness)
    training, redemptions, catalogue = Training(room), Redemptions(room), Catalogue(room)
    rollouts = RolloutCalls(room)
    body = room.settings.body

    def route(method: str, path: str, handle: Handler, access: str | None, limit: int | None = None) -> Route:
        template = path.replace(":path", "")
        endpoint: ASGIApp = Endpoint(room, f"{method} {template}", handle, access=access, limit=limit)
        return Route(path, endpoint=endpoint, methods=[method])

    def event(type_: str) -> Route:
        handle: Handler = partial(observing.single, type_=type_)
        return route("POST", f"/v1/{type_}", handle, "write", body.event_bytes)

    about_access = None if room.settings.loopback else "admin"
    return [
        *(event(type_) for type_ in TYPES),
        route("POST", "/v1/batch", observing.batch, "write", body.batch_bytes),
        route("POST", "/v1/decide", deciding.decide, "decide", body.batch_bytes),
        route("POST", "/v1/decisions/{id}/reward", records.reward, "write", SMALL),
        route("GET", "/v1/decisions/{id}", records.decision, "decide"),
        route("GET", "/v1/profiles/{id:path}/export", profiles.export, "admin"),
        route("GET", "/v1/profiles/{id:path}", profiles.read, "admin"),
        route("DELETE", "/v1/profiles/{id:path}", profiles.erase, "admin"),
        route("POST", "/v1/identities/unlink", profiles.unlink, "admin", SMALL),
        route("POST", "/v1/score", profiles.score, "decide", SMALL),
        route("POST", "/v1/id", VisitorId(room).ask, "write", SMALL),
        route("GET", "/v1/tier1", Tier1Told(room).read, "admin"),
        route("GET", "/v1/catalogue", catalogue.read, "admin"),
        route("PUT", "/v1/catalogue", catalogue.replace, "admin", body.catalogue_bytes),
        route("POST", "/v1/redemptions/verify", redemptions.verify, "write", SMALL),
        route("GET", "/v1/redemptions/key", redemptions.key, "admin"),
        route("POST", "/v1/campaigns/preview", redemptions.preview, "admin", SMALL),
        route("GET", "/v1/models", books.models, "admin"),
        route("GET", "/v1/experiments", ExperimentCalls(room).read, "admin"),
        route("POST", "/v1/train", training.ask, "admin", SMALL),
        route("GET", "/v1/train", training.list, "admin"),
        route("GET", "/v1/train/{id}", training.read, "admin"),
        route("POST", "/v1/train/{id}/cancel", training.cancel, "admin", SMALL),
        route("GET", "/v1/rollouts", rollouts.read, "admin"),
        route("POST", "/v1/rollouts", rollouts.start, "admin", SMALL),
        *(route("POST", f"/v1/rollouts/{{id}}/{verb}", rollouts.act(verb), "admin", SMALL) for verb in VERBS),
        route("GET", "/v1/campaigns", books.read, "admin"),
        route("PUT", "/v1/campaigns", books.replace, "admin", body.book_bytes),
        route("POST", "/v1/campaigns/dry-run", books.dry_run, "admin", body.book_bytes),
        route("POST", "/v1/campaigns/rollback", books.roll_back, "admin", SMALL),
        route("GET", "/healthz", about.health, None),
        route("GET", "/readyz", about.ready, None),
        route("GET", "/metrics", about.metrics, about_access),
        route("GET", "/openapi.json", about.description, about_access),
        route("GET", "/docs", about.page, about_access),
    ]


async def _refuse(request: Request, error: Exception) -> Response:
    """What the router refuses: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 404:
        reply = problem_of(NotFound("unknown_path", f"{path}: no such path; see /docs"))
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        reply = problem_of(WrongMethod("wrong_method", f"{path}: found {request.method}, expected {allowed}"))
    else:
        reply = problem(error.status_code, "refused", error.detail)
    headers = {name.decode(): value.decode() for name, value in reply.headers} | dict(error.headers or {})
    return Response(reply.body, reply.status, headers)


async def _send(reply: Reply, send: Send) -> None:
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
