"""Webhooks over HTTP: the destinations of the settings, and one POST that never raises."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import httpx

from actors.message import Answer, Destination, Post
from serving.settings import Settings


def destinations_of(settings: Settings) -> dict[str, Destination]:
    """The destinations that the settings name."""
    return {
        name: Destination(
            name, to.url, to.secret.get_secret_value().encode(), to.timeout_s, to.tries, to.first_wait_s,
            to.longest_wait_s,
        )
        for name, to in settings.webhooks.items()
    }  # fmt: skip


def http_post(transport: httpx.AsyncBaseTransport | None = None) -> Post:
    """A `Post` that makes a connection each time: destinations are few, and what waits between tries holds nothing.

    The time-out is for all of it: httpx's own begins anew with every byte.
    """
    known: list[ssl.SSLContext] = []

    async def post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        if not known:
            # Reading the system's certificates takes tens of milliseconds of a processor: once, and beside the loop.
            known.append(await asyncio.to_thread(httpx.create_ssl_context))
        try:
            # Only the status counts, so that an endless answer costs nothing.
            async with (
                asyncio.timeout(timeout_s),
                httpx.AsyncClient(timeout=None, trust_env=False, transport=transport, verify=known[0]) as client,
                client.stream("POST", url, content=body, headers=dict(headers)) as response,
            ):
                return Answer(response.status_code, _seconds(response.headers.get("retry-after")))
        except TimeoutError:
            return Answer(0, 0.0, f"no answer within {timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Answer(0, 0.0, f"{type(error).__name__}: {error}".strip(": "))

    return post


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdigit() and len(text) < 9 else 0.0
