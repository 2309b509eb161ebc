"""What the simulation hands to whoever drives it: events to send, and questions to ask."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from engine.simulation.shopper import Shopper, State


@dataclass(frozen=True, slots=True)
class Send:
    """An event in Segment's form, ready for `/v1/batch`, at simulated time `t_ms` of visit number `visit`."""

    t_ms: int
    visit: int
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """A decision is due: send `request` to `/v1/decide`, then tell the generator what was shown.

    `shopper` and `state` belong to the hidden truth (`Truth.p_purchase(ask.shopper, ask.state, offer)`); they
    are for measuring, never for sending.
    """

    t_ms: int
    visit: int
    request: dict[str, Any]
    shopper: Shopper
    state: State


class Shown(NamedTuple):
    """The answer to an `Ask` with the decision that it came from, so that later events can name it."""

    offer: str
    decision: str | None = None


Step: TypeAlias = Send | Ask
Reply: TypeAlias = Shown | str | None
"""What `.send()` takes after an `Ask`: the offer shown, or None. After a `Send` it is ignored."""


def iso(t_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds.

    >>> iso(1_700_000_000_123)
    '2023-11-14T22:13:20.123Z'
    """
    whole = datetime.fromtimestamp(t_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{t_ms % 1000:03d}Z"
