"""Personas: a made-up visitor in a small YAML file, with what they do and when, walked through a book."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from engine.book import Book, compile_book
from engine.durations import parse_duration_ms
from engine.errors import InvalidInput
from engine.events import parse_event
from engine.fields import found
from engine.findings import nearest
from engine.ids import anon_track
from engine.inputs import Request
from engine.moments import parse_moment
from engine.prior import PriorModel
from engine.schema import DEVICES, NETWORKS, SYSTEMS
from engine.signals import Signal
from engine.walk import Moment, Walk
from engine.world import World
from serving.books import SAMPLES
from serving.yaml_places import Document, read_yaml

PERSONAS: Final = SAMPLES / "personas"
START: Final = "2026-03-02T18:30:00Z"
"""When a persona that names no `start` begins: a Monday evening in Europe."""
KEYS: Final = ("name", "about", "start", "context", "consent", "placement", "steps")
CONTEXT: Final[dict[str, Any]] = {
    "device": "other", "os": "other", "browser": "other", "bot": False, "network": "unknown", "save_data": False,
    "locale": None, "timezone": None, "lat": None, "lon": None, "country": None,
}  # fmt: skip
_WORDS: Final = {"device": DEVICES, "os": SYSTEMS, "network": NETWORKS}
CONSENTS: Final = ("analytics", "personalisation", "training")


def _track(name: str, key: str | None = None) -> Callable[[Any], dict[str, Any]]:
    def event(value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            properties = value
        elif value is None or key is None:
            properties = {}
        else:
            properties = {key: value}
        return {"type": "track", "event": name, "properties": properties}

    return event


def _items(name: str) -> Callable[[Any], dict[str, Any]]:
    def event(value: Any) -> dict[str, Any]:
        items = value if isinstance(value, list) else [value if isinstance(value, dict) else {"id": value}]
        return {"type": "track", "event": name, "properties": {"items": [] if value is None else items}}

    return event


def _page(value: Any) -> dict[str, Any]:
    return {"type": "page", "properties": value if isinstance(value, dict) else {"url": value}}


def _custom(value: Any) -> dict[str, Any]:
    given = value if isinstance(value, dict) else {"name": value}
    return {"type": "track", "event": given.get("name"), "properties": given.get("properties")}


VERBS: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "page": _page,
    "scroll": _track("Scroll Depth", "scroll_share"),
    "time_on_page": _track("Heartbeat", "time_on_page_s"),
    "hover": _track("Hover", "hover_ms"),
    "click": _track("Clicked", "target"),
    "view": _items("Product Viewed"),
    "add": _items("Product Added"),
    "remove": _items("Product Removed"),
    "cart": _items("Cart Viewed"),
    "checkout": _track("Checkout Started", "step"),
    "order": _track("Order Completed", "order_id"),
    "identify": lambda traits: {"type": "identify", "traits": traits},
    "group": lambda group: {"type": "group", "groupId": group},
    "event": _custom,
}
"""What a step may say beside `decide`: each makes one event of the Segment spec, checked as those over HTTP are."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the persona does `at_ms` after the start: a signal, or a decision that is due."""

    at_ms: int
    verb: str
    value: Any
    signal: Signal | None = None
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class Persona:
    """Who it is, in what circumstances, and what they do."""

    name: str
    about: str
    start_ms: int
    context: dict[str, Any]
    consent: dict[str, bool]
    placement: str | None
    steps: list[Step] = field(default_factory=list)


def persona_names() -> list[str]:
    """The personas that come with Kairos."""
    return sorted(path.stem for path in PERSONAS.glob("*.yaml"))


def read_persona(name_or_file: str) -> Persona:
    """A persona by its shipped name or from a file.

    Raises:
        InvalidInput: `unknown_persona`, or `bad_persona` with a line for each mistake.
    """
    path = Path(name_or_file)
    if not path.suffix and not path.exists():
        path = PERSONAS / f"{name_or_file}.yaml"
    try:
        raw = path.read_bytes()
    except OSError:
        known = ", ".join(persona_names())
        raise InvalidInput("unknown_persona", f"{name_or_file}: no such file, and the personas are: {known}") from None
    return _Reader(read_yaml(raw), str(path)).persona()


def walk(persona: Persona, book: Book, *, seed: int = 0) -> Iterator[tuple[Step, Moment]]:
    """Each step with how the visitor stands after it."""
    world = World(compile_book(book, "simulated"), PriorModel())
    placements = sorted(world.book.placements)
    due = next((s.request.placement for s in persona.steps if s.request is not None), placements[0])
    placement = persona.placement or due
    asked = {placement, *(s.request.placement for s in persona.steps if s.request is not None)}
    if unknown := asked - set(placements):
        message = f"no campaign lists the placement {min(unknown)}; the book has: {', '.join(placements)}"
        raise InvalidInput("unknown_placement", message)
    walked = Walk(world, anon_track(persona.name), persona.consent, seed)
    for step in persona.steps:
        now_ms = persona.start_ms + step.at_ms
        context = _context_at(persona.context, now_ms)
        if step.signal is not None:
            yield step, walked.observe(step.signal, Request(placement), context, now_ms)
        elif step.request is not None:
            yield step, walked.decide(step.request, context, now_ms)


def _context_at(context: dict[str, Any], now_ms: int) -> dict[str, Any]:
    if context["timezone"] is None:
        return {**context, "local_hour": None, "weekday": None}
    local = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(context["timezone"]))
    return {**context, "local_hour": local.hour, "weekday": local.weekday()}


class _Reader:
    """Reads one document and gathers what is wrong with it."""

    def __init__(self, document: Document, file: str) -> None:
        self._document, self._file = document, file
        self._wrong: list[tuple[int, str]] = [(document.line_of(e.loc), e.text()) for e in document.errors]

    def persona(self) -> Persona:
        data = self._document.data
        if not isinstance(data, dict):
            if not self._wrong:
                self._say((), f"found {found(data)}, expected a mapping with the key steps")
            data = {}
        else:
            self._known((), data, KEYS)
        start_ms = parse_moment(data.get("start", START))
        if start_ms is None or not 946_684_800_000 <= start_ms < 4_102_444_800_000:
            self._say(("start",), f"start: found {found(data.get('start'))}, expected ISO 8601 such as {START}")
            start_ms = 0
        persona = Persona(
            name=self._text(data, "name") or Path(self._file).stem,
            about=self._text(data, "about") or "",
            start_ms=start_ms,
            context=self._context(data.get("context") or {}),
            consent=self._consent(data.get("consent") or {}),
            placement=self._text(data, "placement"),
            steps=self._steps(data.get("steps"), start_ms) if not self._wrong else [],
        )
        if self._wrong:
            lines = (f"{self._file}:{line}: {text}" for line, text in sorted(self._wrong))
            raise InvalidInput("bad_persona", "\n".join(lines))
        return persona

    def _say(self, loc: tuple[str | int, ...], text: str) -> None:
        self._wrong.append((self._document.line_of(loc), text))

    def _known(self, loc: tuple[str | int, ...], given: dict[Any, Any], known: tuple[str, ...]) -> None:
        for key in given:
            if key not in known:
                close = nearest(key, known)
                hint = f" (did you mean {close}?)" if close else ""
                self._say((*loc, key), f"{key}: expected one of {', '.join(known)}{hint}")

    def _text(self, data: dict[Any, Any], key: str) -> str | None:
        value = data.get(key)
        if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 256):
            self._say((key,), f"{key}: found {found(value)}, expected text")
            return None
        return value

    def _context(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            self._say(("context",), f"context: found {found(given)}, expected a mapping")
            return dict(CONTEXT)
        self._known(("context",), given, tuple(CONTEXT))
        for key, value in given.items():
            words, default = _WORDS.get(key), CONTEXT.get(key)
            if words is not None and value not in words:
                self._say(("context", key), f"context.{key}: found {found(value)}, expected one of {', '.join(words)}")
            elif isinstance(default, bool) and not isinstance(value, bool):
                self._say(("context", key), f"context.{key}: found {found(value)}, expected true or false")
            elif key in ("lat", "lon") and (isinstance(value, bool) or not isinstance(value, int | float)):
                self._say(("context", key), f"context.{key}: found {found(value)}, expected degrees")
            elif key == "timezone" and not _is_zone(value):
                self._say(("context", key), f"context.timezone: found {found(value)}, expected an IANA zone")
            elif key in ("browser", "locale", "country") and not isinstance(value, str):
                self._say(("context", key), f"context.{key}: found {found(value)}, expected text")
        return {**CONTEXT, **given}

    def _consent(self, given: Any) -> dict[str, bool]:
        if not isinstance(given, dict) or not all(isinstance(value, bool) for value in given.values()):
            self._say(("consent",), f"consent: expected true or false for each of {', '.join(CONSENTS)}")
            return {}
        self._known(("consent",), given, CONSENTS)
        return given

    def _steps(self, given: Any, start_ms: int) -> list[Step]:
        if not isinstance(given, list) or not given:
            self._say(("steps",), f"steps: found {found(given)}, expected a list of steps")
            return []
        steps: list[Step] = []
        at_ms = 0
        for n, row in enumerate(given):
            try:
                step = self._step(n, row, start_ms, at_ms)
            except InvalidInput as error:
                self._say(("steps", n), f"steps[{n}]: {error.message}")
                continue
            at_ms = step.at_ms
            steps.append(step)
        return steps

    def _step(self, n: int, row: Any, start_ms: int, before_ms: int) -> Step:
        options = ", ".join(("decide", *VERBS))
        verbs = [key for key in row if key != "at"] if isinstance(row, dict) else []
        if len(verbs) != 1 or (verbs[0] != "decide" and verbs[0] not in VERBS):
            close = nearest(verbs[0], ("decide", *VERBS)) if len(verbs) == 1 else None
            hint = f" (did you mean {close}?)" if close else ""
            raise InvalidInput("bad_step", f"expected at: and one of {options}{hint}")
        verb, value = verbs[0], row[verbs[0]]
        try:
            at_ms = parse_duration_ms(str(row.get("at", "")))
        except ValueError as error:
            raise InvalidInput("bad_step", f"at: found {found(row.get('at'))}, expected {error}") from None
        if at_ms < before_ms:
            raise InvalidInput("bad_step", f"at: found {found(row['at'])}, expected no earlier than the step before")
        if verb == "decide":
            return Step(at_ms, verb, value, request=_request(value))
        now_ms = start_ms + at_ms
        event = {**VERBS[verb](value), "anonymousId": "persona", "messageId": f"step {n}", "timestamp": now_ms}
        parsed = parse_event(event, received_ms=now_ms, message_key=b"persona")
        return Step(at_ms, verb, value, signal=parsed.signal)


def _is_zone(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(ZoneInfo(value))
    except (ValueError, OSError, KeyError):  # fmt: skip
        return False


def _request(value: Any) -> Request:
    given = value if isinstance(value, dict) else {"placement": value}
    placement, limit, base = given.get("placement"), given.get("limit", 1), given.get("base", [])
    if unknown := set(given) - {"placement", "campaign", "limit", "base", "page_view"}:
        raise InvalidInput("bad_step", f"decide.{min(unknown)}: expected placement, campaign, limit, base, page_view")
    if not isinstance(placement, str) or not placement:
        raise InvalidInput("bad_step", f"decide: found {found(placement)}, expected a placement")
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 50:
        raise InvalidInput("bad_step", f"decide.limit: found {found(limit)}, expected a number from 1 to 50")
    if not isinstance(base, list) or not all(isinstance(item, str) for item in base):
        raise InvalidInput("bad_step", f"decide.base: found {found(base)}, expected a list of item ids")
    return Request(placement, given.get("campaign"), [{"id": item} for item in base], limit, given.get("page_view"))
