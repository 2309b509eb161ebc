"""Asking a running Kairos over HTTP, for the command line: JSON in and out, problems as errors."""

from __future__ import annotations

from typing import Any

from engine.errors import Conflict, Forbidden, InvalidInput, KairosError, NotFound, Unauthorised, Unavailable

Json = dict[str, Any]
TIMEOUT_S = 120.0
"""A catalogue of a million products takes its time."""
_KINDS: dict[int, type[KairosError]] = {
    400: InvalidInput, 401: Unauthorised, 403: Forbidden, 404: NotFound, 409: Conflict, 410: NotFound, 503: Unavailable,
}  # fmt: skip


def remote(
    method: str, url: str, path: str, key: str | None, body: Json | bytes | None = None, media: str | None = None
) -> Json:
    """The answer to one call, `path` beginning with `/v1/`; a body of bytes is sent as the type `media`.

    Raises:
        KairosError: of the kind, with code and message, that the server says; Unavailable `no_answer`, `not_kairos`;
            InvalidInput `bad_url`.
    """
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if media is not None:
        headers["Content-Type"] = media
    sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    try:
        response = httpx.request(method, f"{url.rstrip('/')}{path}", headers=headers, timeout=TIMEOUT_S, **sent)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise InvalidInput("bad_url", f"{url}: {error}") from None
    except httpx.TransportError as error:
        raise Unavailable("no_answer", f"{url}: nobody answers: {error}") from None
    try:
        found = response.json()
    except ValueError:
        raise Unavailable("not_kairos", f"{url}: status {response.status_code}, and it is not Kairos") from None
    if response.is_success:
        return dict(found)
    kind = _KINDS.get(response.status_code, KairosError)
    code, message = found.get("code", f"status_{response.status_code}"), found.get("message", response.reason_phrase)
    raise kind(str(code), str(message))
