"""One request in a shard's inbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actors.operations import Reply


@dataclass(slots=True)
class Call:
    """One request in the inbox; answered exactly once."""

    op: str
    payload: dict[str, Any]
    partition: int
    send: Callable[[Reply], None]
    answered: bool = False

    def tracks(self) -> list[str]:
        """The identities that it names."""
        return [self.payload[name] for name in ("track", "anon", "root", "to") if name in self.payload]

    def answer(self, reply: Reply) -> None:
        """Send the reply; a second one is dropped."""
        if not self.answered:
            self.answered = True
            self.send(reply)
