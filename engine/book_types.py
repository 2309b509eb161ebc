"""Type errors of a book as findings: pydantic's errors, told with the path, the expectation and the nearest name."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError

from engine.book_model import BookModel
from engine.condition_checks import NAMES
from engine.condition_model import CLAUSE_TAG, GROUP_TAG, TRAIT, Clause, Group, When
from engine.findings import Findings, Loc, nearest, one_of
from engine.schema import CONDITION_NUMBERS

_EXPECTED = {
    "model_type": "a mapping", "dict_type": "a mapping", "string_type": "text", "bool_type": "true or false",
    "float_type": "a number", "int_type": "a whole number", "list_type": "a list", "tuple_type": "a list",
    "finite_number": "a finite number", "model_attributes_type": "a mapping", "int_from_float": "a whole number",
}  # fmt: skip
_RANGES = {
    "greater_than": ("a number greater than", "gt"), "greater_than_equal": ("a number of at least", "ge"),
    "less_than": ("a number less than", "lt"), "less_than_equal": ("a number of at most", "le"),
    "string_too_long": ("text of at most as many characters:", "max_length"),
    "string_too_short": ("text of at least as many characters:", "min_length"),
    "too_long": ("a list of at most as many entries:", "max_length"),
    "too_short": ("a list of at least as many entries:", "min_length"),
}  # fmt: skip
_TAGS = {CLAUSE_TAG: Clause, GROUP_TAG: Group}
NAME = "a name of small letters, digits and _ that begins with a letter"


def read_model(data: Mapping[str, Any], findings: Findings) -> BookModel | None:
    """The typed book, or None with every type error added to `findings`."""
    try:
        return BookModel.model_validate(data)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        wrong_entries = {error["loc"][:-1] for error in errors}
        short = {error["loc"][:-1] for error in errors if _is_short(error)}
        for error in errors:
            if error["type"] == "missing" and error["loc"][:-1] in short:
                continue
            # Entries that are wrong have been left out of the count, and are told as themselves.
            if error["type"] != "too_short" or error["loc"] not in wrong_entries:
                _add(error, findings)
        return None


def _is_short(error: Any) -> bool:
    """Whether a feature's name stands in a clause as a key, as the short form of an offer's `when` has it."""
    loc = error["loc"]
    inside = error["type"] == "extra_forbidden" and len(loc) > 1 and loc[-2] == CLAUSE_TAG
    return inside and (loc[-1] in NAMES or str(loc[-1]).startswith(TRAIT))


def _clause_of(name: str, value: Any) -> str:
    """The clause that was probably meant."""
    if name in CONDITION_NUMBERS:
        return f"{{feature: {name}, above: {value if isinstance(value, int | float) else 'x'}}}"
    values = value if isinstance(value, list) else [value]
    named = ", ".join(v for v in values if isinstance(v, str)) or "…"
    return f"{{feature: {name}, in: [{named[:60]}]}}"


def _add(error: Any, findings: Findings) -> None:
    kind, found, ctx = error["type"], error["input"], error.get("ctx") or {}
    loc: Loc = tuple(step for step in error["loc"] if step not in _TAGS)
    if loc and loc[-1] == "[key]":
        findings.add(loc[:-1], "wrong_name", NAME, found=loc[-2])
    elif _is_short(error):
        expected = f"a clause of its own, {_clause_of(str(loc[-1]), found)}"
        why = "`label: value` for short stands directly under an offer's when"
        findings.add(loc, "unknown_key", expected, found=str(loc[-1]), why=why)
    elif kind == "extra_forbidden":
        options = keys_at(error["loc"][:-1])
        findings.add(loc, "unknown_key", one_of(options, 16), found=str(loc[-1]), near=nearest(loc[-1], options))
    elif kind == "missing":
        findings.add(loc, "missing", f"{loc[-1]} here", found=None)
    elif kind == "literal_error":
        values = _literals(error["loc"])
        findings.add(loc, "unknown_value", one_of(values), found=found, near=nearest(found, values))
    elif "expected" in ctx and kind not in _EXPECTED:
        near = nearest(found, ctx["options"]) if isinstance(found, str) and "options" in ctx else None
        findings.add(loc, kind, ctx["expected"], found=found, near=near)
    elif kind == "string_pattern_mismatch":
        expected = "a currency of three capital letters, such as EUR" if loc[-1] == "currency" else NAME
        findings.add(loc, "wrong_name", expected, found=found)
    elif kind in _RANGES:
        text, bound = _RANGES[kind]
        findings.add(loc, "out_of_range", f"{text} {ctx[bound]:.10g}", found=found)
    else:
        findings.add(loc, "wrong_type", _EXPECTED.get(kind, error["msg"].lower()), found=found)


def keys_at(loc: tuple[str | int, ...]) -> set[str]:
    """The keys that may stand at a location (pydantic's own, with tags)."""
    model = _bare(_type_at(loc))
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return set()
    keys = {field.alias or name for name, field in model.model_fields.items()}
    return keys | {TRAIT + "…"} if model is When else keys


def _type_at(loc: tuple[str | int, ...]) -> Any:
    at: Any = BookModel
    for step in loc:
        at = _TAGS.get(str(step)) or _inside(_bare(at), step)
    return at


def _inside(kind: Any, step: str | int) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return next((field.annotation for name, field in fields if (field.alias or name) == step), None)
    arguments = [a for a in typing.get_args(kind) if a is not Ellipsis]
    return arguments[-1] if arguments else None


def _bare(kind: Any) -> Any:
    """Without `Annotated` and `| None`."""
    while True:
        if typing.get_origin(kind) is Annotated:
            kind = typing.get_args(kind)[0]
        elif typing.get_origin(kind) in (UnionType, typing.Union):
            given = [a for a in typing.get_args(kind) if a is not type(None)]
            if len(given) != 1:
                return kind
            kind = given[0]
        else:
            return kind


def _literals(loc: tuple[str | int, ...]) -> list[str]:
    return list(typing.get_args(_bare(_type_at(loc))))
