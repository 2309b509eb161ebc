"""W3C trace context: the caller's trace goes on with a span of ours, or a new one begins."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


def traceparent(given: bytes | None, random_bits: Callable[[int], int]) -> bytes:
    """The `traceparent` of the answer. Source: https://www.w3.org/TR/trace-context/#traceparent-header

    >>> traceparent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", lambda n: 7)
    b'00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01'
    """
    span = random_bits(64) or 1
    if given is not None and (match := _TRACEPARENT.fullmatch(given.strip())) is not None:
        version, trace, parent, flags = match.groups()
        extended = len(given.strip()) > 55
        valid = version != b"ff" and trace.strip(b"0") and parent.strip(b"0") and not (version == b"00" and extended)
        if valid:
            return b"00-%b-%016x-%02x" % (trace, span, int(flags, 16) & 1)
    return b"00-%032x-%016x-00" % (random_bits(128) or 1, span)
