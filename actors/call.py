"""One request in a shard's inbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actors.operations import Reply, unavailable


@dataclass(slots=True)
class Call:
    """One request in the inbox; answered exactly once."""

    op: str
    payload: dict[str, Any]
    partition: int
    send: Callable[[Reply], None]
    answered: bool = False
    patient: bool = True
    """Whether it may be kept waiting for what others do; else others wait for its answer."""

    def tracks(self) -> list[str]:
        """The identities that it names."""
        return [self.payload[name] for name in ("track", "anon", "root", "to") if name in self.payload]

    def put_off(self) -> None:
        """Have one that must not wait come again by itself."""
        if not self.patient:
            self.answer(unavailable("recovering", "it has to wait; ask for it alone"))

    def answer(self, reply: Reply) -> None:
        """Send the reply; a second one is dropped."""
        if not self.answered:
            self.answered = True
            self.send(reply)
