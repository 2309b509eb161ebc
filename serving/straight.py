"""The hot calls go straight to the application, past what Serve does with every request of a replica.

Serve gives each request two ids, a context of its own, a line for an access log that is off, metrics that Kairos has
too, and passes it through six context managers: a third of what a decision costs the replica (measured). What holds a
replica together is kept: a call takes one of its slots (`max_ongoing_requests`) and counts as ongoing, so that a
replica that is to end waits for it. Where no slot is free it goes Serve's own way, which queues it or refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.whole_answer import whole


class Slots(Protocol):
    """What is needed of Serve's semaphore."""

    def locked(self) -> bool: ...

    async def acquire(self) -> Any: ...

    def release(self) -> None: ...


class Straight:
    """An ASGI application in front of Serve's: POST to one of `paths` is answered by `app`, all else by `others`."""

    def __init__(
        self, app: ASGIApp, others: ASGIApp, paths: Collection[str], slots: Slots, count: Callable[[int], None]
    ) -> None:
        self._app, self._others, self._paths = app, others, frozenset(paths)
        self._slots, self._count = slots, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        slots = self._slots
        if scope["type"] != "http" or scope["path"] not in self._paths or scope["method"] != "POST" or slots.locked():
            await self._others(scope, receive, send)
            return
        await slots.acquire()
        self._count(1)
        try:
            await self._app(scope, receive, whole(send))
        finally:
            self._count(-1)
            slots.release()

    def ahead_of(self, others: ASGIApp) -> Straight:
        """The same, in front of `others`."""
        return Straight(self._app, others, self._paths, self._slots, self._count)


def go_straight(app: ASGIApp, paths: Collection[str], *, asks_for_client: bool) -> None:
    """In a replica, before it listens: let the hot calls reach `app` directly.

    `asks_for_client`: whether `app` asks who holds the connection, and by what scheme; uvicorn then puts the client of
    a proxy on this machine into the place of the proxy first.
    """
    http: Any = import_module("ray.serve._private.http_util")
    common: Any = import_module("ray.serve._private.common")
    wrap = http._apply_middlewares
    call = common.RequestMetadata(
        request_id="", internal_request_id="", is_direct_ingress=True, _request_protocol=common.RequestProtocol.HTTP
    )

    def wrapped(served: Any, middlewares: Any) -> ASGIApp:
        # What is served is a method of Serve's replica, which has the slots and does the counting.
        replica, others = served.__self__, wrap(served, middlewares)

        def count(delta: int) -> None:
            replica._metrics_manager._change_num_ongoing_requests(call, delta)

        return Straight(app, others, paths, replica._semaphore, count)

    http._apply_middlewares = wrapped
    if not asks_for_client:
        _leave_proxies()


def _leave_proxies() -> None:
    config: Any = import_module("uvicorn.config").Config
    load = config.load

    def loaded(self: Any) -> None:
        load(self)
        app = self.loaded_app
        inner = getattr(app, "app", None)
        if isinstance(inner, Straight):
            self.loaded_app = inner.ahead_of(app)

    config.load = loaded
