"""Request bodies: received in bounded time, unpacked to a bounded size, read as JSON of bounded depth."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import orjson
from starlette.types import Message, Receive

from engine.errors import InvalidInput, TooLarge, UnsupportedMedia
from serving.alarms import Alarms
from serving.problems import TooSlow

HeaderMap = Mapping[bytes, bytes]

DRAIN_BYTES: Final = 4 * 1024 * 1024
DRAIN_S: Final = 2.0
COUNTED_BYTES: Final = 4096
_JSON_TYPES: Final = (b"application/json", b"text/plain")
YAML_TYPES: Final = (b"application/yaml", b"application/x-yaml", b"text/yaml", b"text/x-yaml")
_WINDOWS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


class ClientGone(Exception):
    """The client hung up before its request was complete; nobody waits for an answer."""


def check_media(headers: HeaderMap, more: tuple[bytes, ...] = ()) -> bytes:
    """The media type of a body, JSON where none is named.

    Raises:
        UnsupportedMedia: `unsupported_media_type`.
    """
    given = headers.get(b"content-type")
    if not given or given == b"application/json":
        return b"application/json"
    media, _, parameters = given.partition(b";")
    media = media.strip().lower()
    if media not in _JSON_TYPES and media not in more:
        raise _unsupported(given, "application/json or text/plain")
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        charset = value.strip(b' "').lower()
        if name.strip().lower() == b"charset" and charset not in (b"utf-8", b"utf8", b"us-ascii"):
            raise _unsupported(given, "charset utf-8")
    return media


def _unsupported(given: bytes, expected: str) -> UnsupportedMedia:
    shown = given[:80].decode("latin-1")
    return UnsupportedMedia("unsupported_media_type", f"Content-Type: found {shown!r}, expected {expected}")


async def read_body(receive: Receive, headers: HeaderMap, limit: int, timeout_s: float, alarms: Alarms) -> bytes:
    """The whole body, unpacked, of at most `limit` bytes.

    Raises:
        TooLarge: `too_large`, after what was on its way has been taken off the line, so that the answer arrives.
        TooSlow: `body_timeout`. UnsupportedMedia: `unsupported_encoding`. InvalidInput: `bad_encoding`.
        ClientGone: the client hung up.
    """
    encoding = headers.get(b"content-encoding")
    # `asyncio.timeout` asks for the running loop several times, and each time costs a system call.
    loop = asyncio.get_running_loop()
    task = asyncio.current_task(loop)
    assert task is not None
    struck: list[bool] = []
    alarm = alarms.set(loop, loop.time() + timeout_s, partial(_strike, task, struck))
    try:
        body = await _receive_all(receive, limit + (limit >> 6) + 1024 if encoding else limit)
    except asyncio.CancelledError:
        if not struck or task.uncancel() > 0:
            raise
        raise TooSlow("body_timeout", f"the body did not arrive within {timeout_s:g} s") from None
    finally:
        alarms.off(alarm)
    if body is None:
        raise _too_large(limit)
    return body if encoding is None else _unpack(body, encoding.strip().lower(), limit)


def _strike(task: asyncio.Task[object], struck: list[bool]) -> None:
    struck.append(True)
    task.cancel()


def _too_large(limit: int) -> TooLarge:
    return TooLarge("too_large", f"body: expected at most {limit} bytes (after decompression)")


async def _receive_all(receive: Receive, limit: int) -> bytes | None:
    message = await receive()
    body = _chunk(message)
    if not message.get("more_body"):
        return body if len(body) <= limit else None
    chunks, size = [body], len(body)
    while message.get("more_body") and size <= DRAIN_BYTES:
        message = await receive()
        body = _chunk(message)
        size += len(body)
        if size <= limit:
            chunks.append(body)
    return b"".join(chunks) if size <= limit else None


def _chunk(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    return body


async def drain(receive: Receive, headers: HeaderMap) -> None:
    """Take an unread body off the line, within bounds: a client still sending would not see the refusal."""
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return
    try:
        async with asyncio.timeout(DRAIN_S):
            await _receive_all(receive, 0)
    except (TimeoutError, ClientGone):
        pass


def _unpack(body: bytes, encoding: bytes, limit: int) -> bytes:
    if encoding in (b"", b"identity"):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    window = _WINDOWS.get(encoding)
    if window is None:
        shown = encoding[:40].decode("latin-1")
        raise UnsupportedMedia(
            "unsupported_encoding", f"Content-Encoding: found {shown!r}, expected gzip, deflate or identity"
        )
    if encoding == b"deflate" and body and (body[0] & 0x0F != 8 or int.from_bytes(body[:2], "big") % 31):
        window = -15  # Raw deflate without the zlib header, as some clients send it.
    unpacked = b""
    try:
        while True:
            stream = zlib.decompressobj(window)
            unpacked += stream.decompress(body, limit + 1 - len(unpacked))
            if len(unpacked) > limit:
                raise _too_large(limit)
            if not stream.eof:
                raise InvalidInput("bad_encoding", f"body: {encoding.decode()} data ends too early")
            body = stream.unused_data
            if not body:
                return unpacked
            if window != 31:
                raise InvalidInput("bad_encoding", "body: more data after the end of the deflate stream")
    except zlib.error:
        raise InvalidInput("bad_encoding", f"body: not valid {encoding.decode()} data") from None


def read_json(body: bytes, depth: int) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidInput: `bad_json` (NaN and infinities are not JSON), `too_deep`.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise _too_deep(depth) from None
        raise InvalidInput("bad_json", f"body: not JSON: {error}") from None
    # To count takes longer than to look where there is much to count.
    long = len(body) > COUNTED_BYTES
    if (long or body.count(b"{") + body.count(b"[") > depth) and deeper_than(value, depth):
        raise _too_deep(depth)
    return value


def _too_deep(depth: int) -> InvalidInput:
    return InvalidInput("too_deep", f"body: expected JSON of at most {depth} levels")


def read_object(body: bytes, depth: int) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        InvalidInput: `bad_json`, `too_deep`, `bad_body`.
    """
    value = read_json(body, depth)
    if not isinstance(value, dict):
        raise InvalidInput("bad_body", f"body: found {_kind(value)}, expected an object")
    return value


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {list: "a list", str: "a string", bool: "a boolean"}.get(type(value), "a number")


def deeper_than(value: Any, depth: int) -> bool:
    """Whether lists and objects are nested in more than `depth` levels.

    >>> deeper_than([[1]], 2), deeper_than([[[]]], 2)
    (False, True)
    """
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(depth):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return bool(level)
