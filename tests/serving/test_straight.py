"""A hot call takes one of the replica's slots, counts as ongoing while it lasts, and otherwise goes Serve's way."""

from __future__ import annotations

import asyncio
import warnings
from importlib import import_module
from typing import Any

import pytest
import uvicorn

from serving.straight import Straight, go_straight


class Place:
    """An application that notes what reaches it and answers when it is let."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.may_end = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(scope.get("path", scope["type"]))
        await self.may_end.wait()


class House:
    """A straight way with `n` slots."""

    def __init__(self, n: int) -> None:
        self.app, self.others, self.ongoing = Place(), Place(), 0
        self.others.may_end.set()
        self.slots = asyncio.Semaphore(n)
        self.way = Straight(self.app, self.others, ["/v1/decide"], self.slots, self.count)

    def count(self, delta: int) -> None:
        self.ongoing += delta

    def call(self, method: str = "POST", path: str = "/v1/decide") -> asyncio.Task[None]:
        scope = {"type": "http", "method": method, "path": path}
        return asyncio.ensure_future(self.way(scope, None, None))  # type: ignore[arg-type]


async def test_a_hot_call_counts_while_it_lasts_and_gives_its_slot_back() -> None:
    house = House(2)
    call = house.call()
    await asyncio.sleep(0)
    assert (house.app.reached, house.ongoing, house.slots._value) == (["/v1/decide"], 1, 1)
    house.app.may_end.set()
    await call
    assert (house.others.reached, house.ongoing, house.slots._value) == ([], 0, 2)


async def test_without_a_free_slot_and_for_everything_else_serve_is_asked() -> None:
    house = House(1)
    first = house.call()
    await asyncio.sleep(0)
    await house.call()
    await house.call(path="/v1/campaigns")
    await house.call(method="GET")
    await house.way({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert house.others.reached == ["/v1/decide", "/v1/campaigns", "/v1/decide", "lifespan"]
    assert (house.app.reached, house.ongoing) == (["/v1/decide"], 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (house.ongoing, house.slots._value) == (0, 1)


async def test_serve_still_has_what_the_straight_way_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer Ray that has moved these would otherwise be noticed by nobody before its first request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        http_util, replica, utils = (
            import_module(f"ray.serve._private.{n}") for n in ("http_util", "replica", "utils")
        )
    monkeypatch.setattr(http_util, "_apply_middlewares", http_util._apply_middlewares)
    app = Place()
    app.may_end.set()
    go_straight(app, ["/v1/decide"], asks_for_client=True)

    class Metrics(replica.ReplicaMetricsManager):  # type: ignore[misc]
        def __init__(self) -> None:
            self._num_ongoing_requests, self._cached_metrics_enabled = 0, True
            self._ingress, self._ingress_metrics = False, {}

    class Replica:
        _semaphore, _metrics_manager = utils.Semaphore(lambda: 1), Metrics()

        async def _direct_ingress_asgi(self, scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError("Serve was asked")

    assert hasattr(replica.Replica, "_direct_ingress_asgi")
    way = http_util._apply_middlewares(Replica()._direct_ingress_asgi, [])
    await way({"type": "http", "method": "POST", "path": "/v1/decide"}, None, None)
    assert app.reached == ["/v1/decide"]
    assert Replica._metrics_manager.get_num_ongoing_requests() == 0


@pytest.mark.parametrize("asks_for_client", [False, True])
async def test_proxies_are_asked_for_the_client_only_where_it_matters(
    monkeypatch: pytest.MonkeyPatch, asks_for_client: bool
) -> None:
    house, clients = House(1), list[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        clients.append(scope["client"][0])

    http_util = import_module("ray.serve._private.http_util")
    monkeypatch.setattr(http_util, "_apply_middlewares", http_util._apply_middlewares)
    monkeypatch.setattr(uvicorn.Config, "load", uvicorn.Config.load)
    go_straight(app, ["/v1/decide"], asks_for_client=asks_for_client)
    way = Straight(app, app, ["/v1/decide"], house.slots, house.count)
    config = uvicorn.Config(lambda: way, factory=True, log_config=None)
    config.load()
    served: Any = config.loaded_app
    for path in ("/v1/decide", "/v1/id"):
        headers = [(b"x-forwarded-for", b"203.0.113.9")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "client": ("127.0.0.1", 1)}
        await served(scope, None, None)
    assert clients == ["203.0.113.9" if asks_for_client else "127.0.0.1", "203.0.113.9"]
