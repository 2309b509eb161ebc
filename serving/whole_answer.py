"""An answer known as a whole is given to the connection as a whole, past what uvicorn does header by header.

Uvicorn looks at each header with three comparisons and two searches and adds head and body up in parts: a tenth of what
a decision costs the replica (measured). The values are searched here too, in one go, for what would split a response.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any, Final

from starlette.types import Send

from serving.one_write import OneWrite

Message = MutableMapping[str, Any]
_NO_BODY: Final = (204, 304)
_STATUS_LINES: Final = {int(s): b"HTTP/1.1 %d %b\r\n" % (s, s.phrase.encode()) for s in HTTPStatus}
_SPLITTING: Final = re.compile(b"[\x00-\x08\x0a-\x1f\x7f]")
"""What uvicorn refuses in the value of a header."""


class WholeAnswer:
    """`send` for one call to an application that names its answer's `content-length` and sends the body in one.

    Any other answer, and one to a connection that is ending or is not taking more, is left to uvicorn.
    """

    __slots__ = ("_cycle", "_head", "_send")

    def __init__(self, cycle: Any, send: Send) -> None:
        self._cycle, self._send = cycle, send
        self._head: Message | None = None

    async def __call__(self, message: Message) -> None:
        """Take one message of ASGI."""
        head = self._head
        if head is None and message["type"] == "http.response.start":
            self._head = message
            return
        if head is not None:
            self._head = None
            if self._written(head, message):
                return
            await self._send(head)
        await self._send(message)

    def _written(self, head: Message, message: Message) -> bool:
        """Whether head and body are on their way; else nothing has been done."""
        cycle, body, status = self._cycle, message.get("body", b""), head["status"]
        headers = cycle.default_headers + head["headers"]
        names, values = zip(*headers, strict=True)
        if cycle.response_started or cycle.disconnected or not cycle.keep_alive or cycle.flow.write_paused:
            return False
        length = (b"content-length", b"%d" % len(body))
        if message.get("more_body") or length not in headers or b"connection" in names:
            return False
        if status in _NO_BODY or status not in _STATUS_LINES or _SPLITTING.search(b"".join(values)) is not None:
            return False
        parts = [_STATUS_LINES[status]]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", body)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write_at_once(b"".join(parts))
        cycle.message_event.set()
        cycle.on_response()
        return True


def whole(send: Send) -> Send:
    """`send` with the short way, where it belongs to a request that uvicorn answers by one write."""
    cycle: Any = getattr(send, "__self__", None)
    return WholeAnswer(cycle, send) if type(getattr(cycle, "transport", None)) is OneWrite else send
