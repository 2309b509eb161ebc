"""Errors as `application/problem+json` (RFC 9457): one table from the error tree to HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson

from engine import errors

Headers = list[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json")
PROBLEM: Final = (b"content-type", b"application/problem+json")
RETRY_AFTER: Final = (b"retry-after", b"1")
CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="kairos", Basic realm="kairos"')


_STATUSES: Final = frozenset(int(status) for status in HTTPStatus if status >= 400)


class TooSlow(errors.KairosError):
    """The body did not arrive in time."""


class WrongMethod(errors.KairosError):
    """The path exists and does not do that."""


STATUS: Final[dict[type[errors.KairosError], int]] = {
    errors.InvalidInput: 400,
    errors.Unauthorised: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    WrongMethod: 405,
    TooSlow: 408,
    errors.Conflict: 409,
    errors.Expired: 410,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Unavailable: 503,
    errors.Fenced: 503,
    errors.KairosError: 500,
}


class Reply(NamedTuple):
    """An HTTP response before it is sent."""

    status: int
    body: bytes
    headers: Headers


def json_reply(content: object, status: int = 200) -> Reply:
    """A JSON response."""
    return Reply(status, orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS), [JSON])


def status_of(error: errors.KairosError) -> int:
    """The HTTP status of an error: that of the nearest class in the table."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def problem(status: int, code: str, message: str, **extra: Any) -> Reply:
    """A problem document; `extra` are extension members."""
    content = {
        "type": f"urn:kairos:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "code": code,
        "message": message,
        **extra,
    }
    headers: Headers = [PROBLEM]
    if status == 503:
        headers.append(RETRY_AFTER)
    elif status == 401:
        headers.append(CHALLENGE)
    return Reply(status, orjson.dumps(content), headers)


def problem_of(error: errors.KairosError) -> Reply:
    """The response to an error; a book's findings come along."""
    status = status_of(error)
    extra: dict[str, Any] = {}
    if (findings := getattr(error, "placed", None) or getattr(error, "findings", None)) is not None:
        extra["findings"] = [finding.to_dict() for finding in findings]
    reply = problem(status, error.code, error.message, **extra)
    if status == 403:
        reply.headers.append((b"www-authenticate", b'Bearer realm="kairos", error="insufficient_scope"'))
    return reply


def problem_in(answer: dict[str, Any]) -> Reply | None:
    """The problem that a shard answered with, if it did: `{"error": …}` or `{"unavailable": …}`."""
    if (error := answer.get("error")) is not None:
        status = error.get("status", 400)
        return problem(
            status if status in _STATUSES else 500, str(error.get("code", "unknown")), str(error.get("message", ""))
        )
    if (unavailable := answer.get("unavailable")) is not None:
        code = str(unavailable.get("code", "shard_unavailable"))
        return problem(503, code, str(unavailable.get("message", "try again")))
    return None
