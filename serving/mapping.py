"""A replay map: which column of a file is what."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from engine.durations import parse_duration_ms
from engine.fields import READERS, folded
from engine.findings import nearest, shown

ValueType = Literal["text", "number", "integer", "boolean"]
PLAIN_TYPES = ("identify", "page", "screen")
"""Event names that are types of their own in the contract; every other name travels in a `track`."""
_NAMES = {
    folded(name): name
    for name in (
        "Page Viewed", "Screen Viewed", "Scroll Depth", "Heartbeat", "Hover", "Clicked", "Product Viewed",
        "Product Added", "Product Removed", "Cart Viewed", "Checkout Started", "Order Completed", "Order Refunded",
        "Order Cancelled", "Offer Viewed", "Offer Clicked", "Offer Redeemed",
    )
}  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CsvFormat(_Part):
    """Comma-separated, or with another separator; the first line names the columns unless `columns` does."""

    kind: Literal["csv"]
    separator: str = "auto"
    columns: tuple[str, ...] | None = None

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value != "auto" and len(value) != 1:
            raise ValueError("expected auto or one character")
        return value


class JsonlFormat(_Part):
    """One JSON object a line; with `events`, each element of that list is an event and sees its parent's fields too."""

    kind: Literal["jsonl"]
    events: str | None = None


class LogFormat(_Part):
    """One event a line, read by a regular expression whose named groups are the columns."""

    kind: Literal["log"]
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"expected a regular expression; {error}") from None
        if not groups:
            raise ValueError("expected named groups such as (?P<time>…)")
        return value


Format = Annotated[CsvFormat | JsonlFormat | LogFormat, Field(discriminator="kind")]


class Value(_Part):
    """Where a value comes from: a column, a template such as `{country}-{city}`, or a constant.

    A plain text is a template where it has braces, else a column.
    """

    column: str | None = None
    template: str | None = None
    value: str | int | float | bool | None = None
    type: ValueType = "text"
    map: dict[str, str | int | float | bool] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"template": given} if "{" in given else {"column": given}
        return given

    @model_validator(mode="after")
    def _one_source(self) -> Value:
        if sum(source is not None for source in (self.column, self.template, self.value)) != 1:
            raise ValueError("expected exactly one of column, template, value")
        return self

    @property
    def columns(self) -> list[str]:
        """The columns it reads."""
        if self.column is not None:
            return [self.column]
        return re.findall(r"\{([^{}]+)\}", self.template) if self.template is not None else []


class Identity(_Part):
    """Who did it; one of the two is needed."""

    anonymousId: Value | None = None  # noqa: N815 - the names of the contract
    userId: Value | None = None  # noqa: N815

    @model_validator(mode="after")
    def _somebody(self) -> Identity:
        if self.anonymousId is None and self.userId is None:
            raise ValueError("expected anonymousId or userId")
        return self


class Order(_Part):
    """Where dates have no clock: this column's number times `step` is added to the date."""

    column: str
    step: str = "1s"

    @field_validator("step")
    @classmethod
    def _duration(cls, value: str) -> str:
        parse_duration_ms(value)
        return value


class Timestamp(_Part):
    """When it happened: `format` is epoch_ms, epoch_s, iso, or a strptime pattern; `zone` where the text has none."""

    column: str | None = None
    template: str | None = None
    format: str = "iso"
    zone: str = "UTC"
    order: Order | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Timestamp:
        if (self.column is None) == (self.template is None):
            raise ValueError("expected exactly one of column, template")
        return self

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ("epoch_ms", "epoch_s", "iso") and "%" not in value:
            raise ValueError("expected epoch_ms, epoch_s, iso, or a strptime pattern such as %Y-%m-%d")
        return value

    @field_validator("zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("expected an IANA zone such as Europe/Berlin") from None
        return value

    @property
    def source(self) -> Value:
        """Where its text comes from."""
        return Value(column=self.column, template=self.template)


class EventName(_Part):
    """The event's name: a constant, or a column whose values are mapped; `other` says what becomes of the rest."""

    value: str | None = None
    column: str | None = None
    map: dict[str, str] = Field(default_factory=dict)
    other: Literal["skip", "reject", "keep"] = "reject"

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"value": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_source(self) -> EventName:
        if (self.value is None) == (self.column is None):
            raise ValueError("expected exactly one of value, column")
        for name in [self.value, *self.map.values()]:
            _check_event_name(name)
        return self


class Skip(_Part):
    """Rows to leave out: those whose column matches the regular expression anywhere."""

    column: str
    matches: str

    @field_validator("matches")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"expected a regular expression; {error}") from None
        return value


class ReplayMap(_Part):
    """A whole map. `messageId` defaults to a hash of the row, so that a second run finds only duplicates."""

    format: Format
    identity: Identity
    timestamp: Timestamp
    event: EventName
    properties: dict[str, Value] = Field(default_factory=dict)
    context: dict[str, Value] = Field(default_factory=dict)
    userAgent: Value | None = None  # noqa: N815
    messageId: Value | None = None  # noqa: N815
    skip: tuple[Skip, ...] = ()

    def columns(self) -> list[tuple[tuple[str, ...], str]]:
        """Every column the map reads, with the place in the map that names it."""
        places: list[tuple[tuple[str, ...], Value | None]] = [
            (("identity", "anonymousId"), self.identity.anonymousId),
            (("identity", "userId"), self.identity.userId),
            (("timestamp",), self.timestamp.source),
            (("userAgent",), self.userAgent),
            (("messageId",), self.messageId),
            *((("properties", name), value) for name, value in self.properties.items()),
            *((("context", name), value) for name, value in self.context.items()),
        ]
        found = [(place, column) for place, value in places if value is not None for column in value.columns]
        if self.timestamp.order is not None:
            found.append((("timestamp", "order"), self.timestamp.order.column))
        if self.event.column is not None:
            found.append((("event",), self.event.column))
        return found + [(("skip",), skip.column) for skip in self.skip]


def _check_event_name(name: str | None) -> None:
    if name is None or folded(name) in READERS or name in PLAIN_TYPES:
        return
    hint = nearest(folded(name), READERS)
    if hint is not None:
        meant = _NAMES.get(hint, hint)
        raise ValueError(
            f"found {shown(name)}, expected an event of Kairos or a name unlike any (did you mean {meant}?)"
        )
