"""The body of `POST /v1/decide`, validated by hand: it is the hot path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import orjson

from engine.events import TYPES, Rejected, parse_event, read_identity, track_of
from engine.fields import identifier, refuse
from engine.identities import IdentityRules
from serving.settings import Settings


class DecideRequest(NamedTuple):
    """What was asked. `signals` are in wire form, `positions` their places in the request's list."""

    track: str
    placement: str
    campaign: str | None
    request_id: str | None
    page_view_id: str | None
    context: Any
    signals: list[list[Any]]
    positions: list[int]
    rejects: list[dict[str, Any]]
    gave_signals: bool
    base: list[dict[str, Any]]
    limit: int
    deadline_ms: int
    explain: bool
    source: str | None = None
    """Where `base` came from if not from the request, or why there is none."""


class DecideLimits(NamedTuple):
    """What of the settings a decide call is read by, in plain values: to ask the settings takes five times as long."""

    rules: IdentityRules | None
    event_bytes: int
    n_signals: int
    n_base: int
    default_limit: int
    deadline_ms: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings."""
        body = settings.body
        return cls(
            settings.identity.rules(), body.event_bytes, body.n_signals, body.n_base, settings.default_limit,
            settings.deadlines.decide_ms,
        )  # fmt: skip


def read_decide(
    body: Mapping[str, Any], limits: DecideLimits, received_ms: int, message_key: bytes, spare: int, n_bytes: int = 0
) -> DecideRequest:
    """Validate. `spare` seeds the message hashes of signals without a `messageId`; `n_bytes` is the body's size.

    Raises:
        Rejected: with a stable code and a message that names the property, found and expected.
    """
    rules = limits.rules
    others = () if rules is None else rules.others(body)
    user, anonymous = read_identity(body, others, rules)
    placement = identifier("placement", body.get("placement"), "bad_placement")
    if placement is None:
        raise Rejected("missing_placement", "placement: found nothing, expected the name of a placement")
    context = body.get("context")
    if context is not None and not isinstance(context, dict):
        raise refuse("context", context, "an object", "bad_context")
    explain = body.get("explain")
    if explain is not None and not isinstance(explain, bool):
        raise refuse("explain", explain, "true or false", "bad_explain")
    given = body.get("signals")
    signals, positions, rejects = list[list[Any]](), list[int](), list[dict[str, Any]]()
    if given is not None:
        limit = limits.event_bytes
        reader = SignalReader(
            user, anonymous, others, rules, received_ms, message_key, spare, limit if n_bytes > limit else None
        )
        signals, positions, rejects = reader.read(given, limits.n_signals)
    return DecideRequest(
        track=track_of(user, anonymous, others),
        placement=placement,
        campaign=identifier("campaign", body.get("campaign"), "bad_campaign"),
        request_id=identifier("requestId", body.get("requestId"), "bad_request_id"),
        page_view_id=identifier("pageViewId", body.get("pageViewId"), "bad_page_view_id"),
        context=context,
        signals=signals,
        positions=positions,
        rejects=rejects,
        gave_signals=given is not None,
        base=read_base(body.get("base"), limits.n_base),
        limit=_whole("limit", body.get("limit"), 1, 100, limits.default_limit),
        deadline_ms=_whole("deadlineMs", body.get("deadlineMs"), 1, 10_000, limits.deadline_ms),
        explain=explain is True,
    )


def _whole(name: str, value: object, low: int, high: int, default: int) -> int:
    if value is None:
        return default
    # A whole number written as 150.0 is one in JSON.
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        code = "bad_limit" if name == "limit" else "bad_deadline"
        raise refuse(name, value, f"a whole number from {low} to {high}", code)
    return value


def read_base(rows: object, n_most: int) -> list[dict[str, Any]]:
    """Tier 1's suggestions, each id once, where it came first.

    Raises:
        Rejected: `bad_base`.
    """
    if rows is None:
        return []
    if not isinstance(rows, list) or len(rows) > n_most:
        raise refuse("base", rows, f"a list of at most {n_most} items", "bad_base")
    base: dict[str, dict[str, Any]] = {}
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise refuse(f"base[{i}]", row, "an object with an id", "bad_base")
        item_id = identifier(f"base[{i}].id", row.get("id"), "bad_base")
        if item_id is None:
            raise Rejected("bad_base", f"base[{i}].id: found nothing, expected a string")
        item: dict[str, Any] = {"id": item_id}
        score = row.get("score")
        if score is not None:
            if type(score) not in (int, float):
                raise refuse(f"base[{i}].score", score, "a number", "bad_base")
            item["score"] = float(score)
        if row.get("content") is not None:
            item["content"] = row["content"]
        # An item suggested twice is shown once, where it came first.
        base.setdefault(item_id, item)
    return list(base.values())


@dataclass(frozen=True, slots=True)
class SignalReader:
    """Reads the signals that come with a decide call; what is wrong with one is told and fails nothing."""

    user: str | None
    anonymous: str | None
    others: tuple[str, ...]
    rules: IdentityRules | None
    received_ms: int
    message_key: bytes
    spare: int
    most_bytes: int | None = None
    """Of one event; None where the request as a whole is smaller."""

    def read(self, given: object, n_most: int) -> tuple[list[list[Any]], list[int], list[dict[str, Any]]]:
        """Signals in wire form, their places in the list, and the rejects."""
        signals: list[list[Any]] = []
        positions: list[int] = []
        rejects: list[dict[str, Any]] = []
        if not isinstance(given, list) or len(given) > n_most:
            error = refuse("signals", given, f"a list of at most {n_most} events", "bad_signals")
            return signals, positions, [{"index": 0, "code": error.code, "message": error.message}]
        for i, row in enumerate(given):
            try:
                signals.append(self._one(row, i))
                positions.append(i)
            except Rejected as error:
                rejects.append({"index": i, "code": error.code, "message": error.message})
        return signals, positions, rejects

    def _one(self, row: object, i: int) -> list[Any]:
        if not isinstance(row, dict):
            raise refuse("event", row, "an object", "bad_event")
        if self.most_bytes is not None and len(orjson.dumps(row)) > self.most_bytes:
            raise Rejected("too_large", f"signals[{i}]: expected at most {self.most_bytes} bytes an event")
        type_ = row.get("type") or "track"
        if type_ == "alias" or type_ not in TYPES:
            raise refuse("type", type_, "track, page, screen, identify or group", "bad_type")
        event = parse_event(
            {**row, "type": type_, "userId": self.user, "anonymousId": self.anonymous},
            received_ms=self.received_ms,
            message_key=self.message_key,
            spare_message=(self.spare + i) & 0xFFFF_FFFF_FFFF_FFFF,
            rules=self.rules,
            others=self.others,
        )
        return event.signal.to_list()
