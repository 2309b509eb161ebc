"""The connection to Valkey (or Redis): how it is opened, how keys are named, and what its errors become."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as TimedOut

from actors.stores import Position
from engine.errors import InvalidInput, Unavailable

LOST = (Disconnected, TimedOut, OSError)
"""What redis-py raises when it cannot say whether a command was executed."""


TIMEOUT_S = 5.0
"""How long the store may take for one command; appends wait for its disk."""


def connect(url: str, *, max_connections: int = 16, timeout_s: float = TIMEOUT_S) -> Redis:
    """A client of redis://, rediss:// or unix:// that never repeats a command by itself.

    A repeated XADD is refused by its own first copy, so a lost connection has to be seen by the caller. Nothing is
    opened until the first command.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise InvalidInput("bad_store_url", f"cannot read the address of the store: {error}") from error
    return Redis.from_pool(pool)


@contextmanager
def answering() -> Iterator[None]:
    """Turn what redis-py raises into `Unavailable`: `store_unavailable` (uncertain) or `store_refused` (not done)."""
    try:
        yield
    except LOST as error:
        raise Unavailable("store_unavailable", f"the store did not answer: {error}") from error
    except (ResponseError, RedisError) as error:
        raise Unavailable("store_refused", f"the store refused: {error}") from error


def journal_key(partition: int) -> str:
    """The stream of a partition; the braces keep all of a partition in one slot of a cluster."""
    return f"kairos:{{p{partition}}}:journal"


def snapshots_key(partition: int) -> str:
    """The hash of a partition's snapshots."""
    return f"kairos:{{p{partition}}}:snapshots"


def covered_key(partition: int) -> str:
    """Up to where the snapshots of a partition reach."""
    return f"kairos:{{p{partition}}}:covered"


def to_id(position: Position) -> str:
    """A position as a stream id.

    >>> to_id((3, 17))
    '3-17'
    """
    return f"{position[0]}-{position[1]}"


def from_id(text: Any) -> Position:
    """A stream id, as the server writes it, as a position.

    >>> from_id(b"3-17")
    (3, 17)
    """
    epoch, _, seq = (text.decode() if isinstance(text, bytes) else str(text)).partition("-")
    return int(epoch), int(seq)
