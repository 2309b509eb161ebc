"""What a condition looks like in the book: clauses, groups of them, and the short form of an offer's `when`."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PlainValidator, Tag
from pydantic_core import PydanticCustomError

Scalar = str | int | float | bool

GROUP_KEYS: Final = ("all", "any", "none")
ENTER_OPS: Final = ("above", "below", "between", "in", "not_in", "equals")
LEAVE_OPS: Final = {"leave_below": "above", "leave_above": "below"}
"""The threshold for leaving, and the test it belongs to."""
SHORT_LABELS: Final = (
    "segment", "stage", "device", "os", "network", "browser", "locale", "country", "cohort", "geofence", "weekday",
)  # fmt: skip
TRAIT: Final = "trait."

CLAUSE_TAG: Final = "‹clause›"
GROUP_TAG: Final = "‹group›"


class Part(BaseModel):
    """A part of the book: read once, never changed, nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False, serialize_by_alias=True)


def _scalars(value: object) -> tuple[Scalar, ...]:
    """One value or a list of them."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values or any(isinstance(v, dict | list) or v is None for v in values):
        raise PydanticCustomError("wrong_type", "a name or a list of names", {"expected": "a name or a list of names"})
    return tuple(values)


def _scalar(value: object) -> Scalar:
    if not isinstance(value, str | int | float):
        raise PydanticCustomError("wrong_type", "a single value", {"expected": "a single value"})
    return value


def _pair(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) != 2:
        expected = "two numbers: [low, high]"
        raise PydanticCustomError("wrong_type", "two numbers", {"expected": expected})
    return value


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Scalars = Annotated[tuple[Scalar, ...], PlainValidator(_scalars)]


class Clause(Part):
    """One comparison of one feature, with the threshold for leaving where it differs from that for entering."""

    feature: str
    above: Number | None = None
    leave_below: Number | None = None
    below: Number | None = None
    leave_above: Number | None = None
    between: Annotated[tuple[Number, Number] | None, BeforeValidator(_pair)] = None
    in_: Scalars | None = Field(default=None, alias="in")
    not_in: Scalars | None = None
    equals: Annotated[Scalar | None, PlainValidator(_scalar)] = None


def _kind(value: Any) -> str:
    if isinstance(value, Group):
        return GROUP_TAG
    return GROUP_TAG if isinstance(value, dict) and any(key in value for key in GROUP_KEYS) else CLAUSE_TAG


Condition = Annotated[Annotated["Clause", Tag(CLAUSE_TAG)] | Annotated["Group", Tag(GROUP_TAG)], Discriminator(_kind)]


class Group(Part):
    """Conditions joined: every one of `all`, at least one of `any`, and not one of `none`."""

    all: tuple[Condition, ...] | None = None
    any: tuple[Condition, ...] | None = None
    none: tuple[Condition, ...] | None = None


class When(Group):
    """Who may get an offer: groups as in segments, and label: value(s) for short. `trait.x` may stand here too."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalars]

    segment: Scalars | None = None
    stage: Scalars | None = None
    device: Scalars | None = None
    os: Scalars | None = None
    network: Scalars | None = None
    browser: Scalars | None = None
    locale: Scalars | None = None
    country: Scalars | None = None
    cohort: Scalars | None = None
    geofence: Scalars | None = None
    weekday: Scalars | None = None

    def short_labels(self) -> dict[str, tuple[Scalar, ...]]:
        """Label to the values that suit, from the short form."""
        named = {name: value for name in SHORT_LABELS if (value := getattr(self, name)) is not None}
        return {**named, **self.__pydantic_extra__}
