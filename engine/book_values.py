"""The kinds of value that stand in a book: names, durations, shares, money, counts, worths."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError

from engine.durations import EXPECTED, parse_duration_ms


def _duration(value: object) -> int:
    if isinstance(value, str):
        try:
            return parse_duration_ms(value)
        except ValueError:
            pass
    raise PydanticCustomError("wrong_duration", EXPECTED, {"expected": EXPECTED})


def _period(value: object) -> int:
    ms = _duration(value)
    if ms <= 0:
        raise PydanticCustomError("out_of_range", "longer", {"expected": "a duration longer than nothing"})
    return ms


def _worth(value: object) -> float | str:
    if value in ("margin", "revenue"):
        return str(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    expected = "an amount of money of at least 0, margin or revenue"
    raise PydanticCustomError("wrong_value", expected, {"expected": expected, "options": ["margin", "revenue"]})


Name = Annotated[str, Field(strict=True, pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Duration = Annotated[int, BeforeValidator(_duration)]
Period = Annotated[int, PlainValidator(_period)]
Share = Annotated[float, Field(strict=True, ge=0.0, le=1.0, allow_inf_nan=False)]
Money = Annotated[float, Field(strict=True, ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Priority = Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)]
Worth = Annotated[float | str, PlainValidator(_worth)]
