"""Requests of one kind for many profiles of a shard in one frame: what they have in common is said once.

The frame is `["bundle", [operation, [what is common, …]], [[partition, which of them, own], …]]`, its reply
`{"answers": […]}` in the same order. In the shard each is a request by itself, evaluated and answered as if it had come
alone, but that none holds up the others: what would have to wait is told to come again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import orjson

from actors.call import Call
from actors.operations import Reply

BUNDLE: Final = "bundle"
Part = tuple[int, int, dict[str, Any]]
"""Partition, the place of what it shares with others, and its own part of the payload."""


def bundled(op: str, shared: Sequence[dict[str, Any]], parts: Sequence[Part]) -> bytes:
    """The frame."""
    return orjson.dumps([BUNDLE, [op, shared], parts])


def unbundled(told: Any, parts: Any, send: Callable[[Reply], None]) -> list[Call]:
    """The calls in a frame; `send` gets one reply, once all of them have been answered.

    Raises:
        ValueError, TypeError, LookupError: it is no such frame.
    """
    op, shared = told
    gathered = _Gathered(len(parts), send)
    if not parts:
        send({"answers": []})
    return [
        Call(str(op), {**shared[common], **own}, int(partition), partial(gathered.take, place), patient=False)
        for place, (partition, common, own) in enumerate(parts)
    ]


class _Gathered:
    def __init__(self, n: int, send: Callable[[Reply], None]) -> None:
        self._answers: list[Reply] = [{}] * n
        self._n_left, self._send = n, send

    def take(self, place: int, reply: Reply) -> None:
        self._answers[place] = reply
        self._n_left -= 1
        if not self._n_left:
            self._send({"answers": self._answers})
