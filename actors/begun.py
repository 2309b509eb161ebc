"""A request that is on its way: for a caller that keeps the time itself, without a task or a timer of its own."""

from __future__ import annotations

import asyncio


class Begun:
    """A request that has been sent: await `answer`. Verbs: strike (time is up), forget.

    After a strike `answer` holds nothing and `late` is where the reply will be that comes after all.
    """

    __slots__ = ("_correlation", "_in_flight", "answer", "late")

    def __init__(self, in_flight: dict[int, asyncio.Future[bytes]], correlation: int) -> None:
        self._in_flight, self._correlation = in_flight, correlation
        self.answer = in_flight[correlation]
        self.late: asyncio.Future[bytes] | None = None

    def strike(self) -> None:
        """Wake whoever waits, and keep a place for the late reply."""
        answer = self.answer
        if answer.done() and not answer.cancelled():
            return
        self.late = self._in_flight[self._correlation] = answer.get_loop().create_future()
        if not answer.done():
            answer.set_result(b"")

    def forget(self) -> None:
        """Nobody waits any more, not even for a late reply."""
        late = self._in_flight.pop(self._correlation, None)
        if late is not None and not late.done():
            late.cancel()
