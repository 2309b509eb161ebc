"""One event of the Segment/RudderStack spec, named as Segment or GA4 name it, into a Signal with its identities.

Source: https://segment.com/docs/connections/spec (common fields, identify, page, screen, group, alias).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from engine import fields as read
from engine.errors import InvalidInput
from engine.fields import Fields, Rejected, refuse
from engine.identities import IdentityRules, pairs
from engine.ids import anon_track, message_hash, user_track
from engine.moments import DAY_MS, EARLIEST_MS, EXPECTED, check_moment
from engine.signals import Signal

__all__ = ["TYPES", "Event", "Rejected", "parse_event", "read_identity", "track_of"]

TYPES: Final = ("track", "identify", "page", "screen", "group", "alias")
_NOTHING: Final[Mapping[str, object]] = {}


class Event(NamedTuple):
    """An event that was understood.

    `link` is the anonymous id that this event says belongs to `user_id` (identify with both ids, alias);
    `context` is raw, `consent` the raw category preferences in it.
    """

    type: str
    user_id: str | None
    anonymous_id: str | None
    signal: Signal
    link: str | None
    context: Mapping[str, object]
    consent: Mapping[str, object]
    others: tuple[str, ...] = ()
    """Tracks of further identities that it names, the most personal first."""
    more: tuple[tuple[str, str], ...] = ()
    """Further links that it makes: (track, the track it belongs to)."""

    @property
    def track(self) -> str:
        """The track the signal goes to: the user's where one is named."""
        return track_of(self.user_id, self.anonymous_id, self.others)


def track_of(user: str | None, anonymous: str | None, others: tuple[str, ...] = ()) -> str:
    """The track that stands for a request: the user's, else the visitor's, else the most personal of the others."""
    if user is not None:
        return user_track(user)
    return others[0] if anonymous is None and others else anon_track(anonymous or "")


def read_identity(
    body: Mapping[str, object], others: tuple[str, ...] = (), rules: IdentityRules | None = None
) -> tuple[str | None, str | None]:
    """The `userId` and `anonymousId` of a request, one of which must be given where there are no `others`.

    Raises:
        Rejected: `missing_id`, `bad_user_id`, `bad_anonymous_id`.
    """
    given = body.get("userId")
    # RudderStack's SDK for browsers says so of a visitor who has not been identified.
    user = None if given == "" and body.get("anonymousId") else read.identifier("userId", given, "bad_user_id")
    anonymous = read.identifier("anonymousId", body.get("anonymousId"), "bad_anonymous_id")
    if user is None and anonymous is None and not others:
        raise Rejected("missing_id", "userId, anonymousId: found neither, expected one of them")
    return (user, anonymous) if rules is None else (rules.kept(user), rules.kept(anonymous))


def parse_event(
    event: object,
    *,
    received_ms: int,
    message_key: bytes,
    default_type: str | None = None,
    spare_message: int | None = None,
    rules: IdentityRules | None = None,
    others: tuple[str, ...] | None = None,
) -> Event:
    """Read one event.

    `default_type` is the type that the route implies. `spare_message` is the message hash for an event without
    a `messageId`; without it such an event is known by its own content. `rules` say which further identities are
    read; `others` are those that are known already.

    Raises:
        Rejected: with a stable code and a message that names the property, what was found and what was expected.
    """
    if not isinstance(event, dict):
        raise refuse("event", event, "an object", "bad_event")
    type_ = event.get("type") or default_type
    if type_ not in TYPES or (default_type is not None and type_ != default_type):
        raise refuse("type", event.get("type"), default_type or f"one of {', '.join(TYPES)}", "bad_type")
    assert isinstance(type_, str)
    if others is None:
        others = () if rules is None else rules.others(event)
    user, anonymous = read_identity(event, others, rules)
    context = _object(event, "context", "bad_context")
    t_ms = _event_time(event, received_ms)
    message_id = read.identifier("messageId", event.get("messageId"), "bad_message_id")
    if message_id is not None:
        message = message_hash(message_key, message_id)
    elif spare_message is not None:
        message = spare_message
    else:
        message = message_hash(message_key, repr(event))
    link = _link(type_, event, user, anonymous, rules)
    kind, fields = _signal_fields(type_, event)
    _add_url(fields, event, context)
    if rules is not None:
        rules.hide(fields)
    consent = context.get("consent")
    preferences = consent.get("categoryPreferences") if isinstance(consent, dict) else None
    return Event(
        type_, user, anonymous, Signal(kind, t_ms, message, fields), link, context,
        preferences if isinstance(preferences, dict) else _NOTHING,
        others, pairs(user, anonymous, others) if others and type_ == "identify" else (),
    )  # fmt: skip


def _object(event: Mapping[str, object], name: str, code: str) -> Mapping[str, object]:
    value = event.get(name)
    if value is None:
        return _NOTHING
    if not isinstance(value, dict):
        raise refuse(name, value, "an object", code)
    return value


def _event_time(event: Mapping[str, object], received_ms: int) -> int:
    """The event's own time; with `sentAt`, moved by how far the sender's clock is off, as Segment does."""
    given, name = event.get("timestamp"), "timestamp"
    if given is None:
        given, name = event.get("originalTimestamp"), "originalTimestamp"
    sent = event.get("sentAt")
    try:
        sent_ms = None if sent is None else check_moment("sentAt", sent, received_ms)
        if given is None:
            return received_ms
        t_ms = check_moment(name, given, received_ms)
    except InvalidInput as error:
        raise Rejected(error.code, error.message) from None
    if sent_ms is not None:
        t_ms += received_ms - sent_ms
        if not EARLIEST_MS <= t_ms <= received_ms + DAY_MS:
            raise refuse(name, given, f"{EXPECTED}, also after correction by sentAt", "bad_timestamp")
    return t_ms


def _link(
    type_: str, event: Mapping[str, object], user: str | None, anonymous: str | None, rules: IdentityRules | None
) -> str | None:
    if type_ == "identify":
        return anonymous if user is not None else None
    if type_ != "alias":
        return None
    previous = read.identifier("previousId", event.get("previousId"), "bad_previous_id") or anonymous
    if rules is not None:
        previous = rules.kept(previous)
    if user is None or previous is None:
        raise Rejected("missing_id", "userId, previousId: alias needs both, found only one of them")
    return previous


def _signal_fields(type_: str, event: Mapping[str, object]) -> tuple[str, Fields]:
    if type_ == "identify":
        return "identify", {"traits": read.traits(event.get("traits"))}
    if type_ == "group":
        group = read.identifier("groupId", event.get("groupId"), "bad_group_id")
        if group is None:
            raise Rejected("bad_group_id", "groupId: found nothing, expected a string")
        return "group", {"group_id": group, "traits": read.traits(event.get("traits"))}
    if type_ == "alias":
        return "custom", {"name": "alias"}
    properties = _object(event, "properties", "bad_properties")
    if type_ in ("page", "screen"):
        kind, reader = read.READERS["page"]
        fields = reader(properties)
        if isinstance(name := event.get("name"), str) and name:
            fields["name"] = name[: read.MAX_TEXT]
        return kind, _with_others(fields, properties)
    name = event.get("event")
    if not isinstance(name, str) or not 0 < len(name) <= read.MAX_ID or read.has_control(name):
        raise refuse("event", name, "a name of 1 to 256 characters without control characters", "bad_event_name")
    known = read.READERS.get(read.folded(name))
    if known is None:
        return "custom", {"name": name, "properties": properties} if properties else {"name": name}
    return known[0], _with_others(known[1](properties), properties)


def _with_others(fields: Fields, properties: Mapping[str, object]) -> Fields:
    if others := read.others(properties):
        fields["properties"] = others
    return fields


def _add_url(fields: Fields, event: Mapping[str, object], context: Mapping[str, object]) -> None:
    for holder in (event.get("properties"), context.get("page")):
        url = holder.get("url") if isinstance(holder, dict) else None
        if isinstance(url, str) and url:
            fields["url"] = url[: read.MAX_URL]
            return
