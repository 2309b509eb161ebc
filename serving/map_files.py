"""Reading a replay map from YAML: every mistake at once, with file, line, path and the nearest valid name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from engine.errors import InvalidInput
from engine.fields import READERS, folded
from engine.findings import nearest, shown
from serving.mapping import LogFormat, ReplayMap
from serving.yaml_places import Document, read_yaml

MAX_LISTED = 200


class MapInvalid(InvalidInput):
    """A map with mistakes; `lines` has one sentence for each, with file, line and path."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        super().__init__("map_invalid", "\n".join(lines))

    def __reduce__(self) -> tuple[type[MapInvalid], tuple[list[str]]]:  # type: ignore[override]
        return type(self), (self.lines,)


def read_map(text: str, name: str) -> ReplayMap:
    """Parse and validate the YAML of a map; `name` is what errors call it.

    Raises:
        MapInvalid: with every mistake.
    """
    document = read_yaml(text.encode())
    if document.errors:
        raise MapInvalid([f"{name}:{document.line_of(e.loc)}: {e.text()}" for e in document.errors])
    try:
        found = ReplayMap.model_validate(document.data)
    except ValidationError as error:
        raise MapInvalid([_sentence(name, document, e) for e in error.errors()]) from None
    if isinstance(found.format, LogFormat):
        check_columns(found, list(re.compile(found.format.pattern).groupindex), text, name)
    return found


def load_map(path: Path) -> tuple[ReplayMap, str]:
    """Read a map from a file, or a shipped one by its name (`eshop`, `otto`, `weblog`); returns its text too.

    Raises:
        MapInvalid: where there is no such file, or its content is wrong.
    """
    shipped = {p.stem: p for p in (Path(__file__).parent / "maps").glob("*.yaml")}
    chosen = path if path.is_file() else shipped.get(str(path).removesuffix(".yaml"))
    if chosen is None:
        hint = nearest(path.stem, shipped)
        near = f" (did you mean the shipped map {hint}?)" if hint else f"; shipped maps: {', '.join(sorted(shipped))}"
        raise MapInvalid([f"{path}: no such map{near}"])
    try:
        text = chosen.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MapInvalid([f"{path}: cannot be read: {error}"]) from None
    return read_map(text, str(path)), text


def check_columns(mapping: ReplayMap, columns: list[str], text: str, name: str) -> None:
    """Refuse a map that names columns which the file does not have.

    Raises:
        MapInvalid: with the line in the map and the nearest column.
    """
    document = read_yaml(text.encode())
    wrong = []
    for place, column in mapping.columns():
        if column not in columns:
            hint = nearest(column, columns)
            near = f" (did you mean {hint}?)" if hint else ""
            wrong.append(
                f"{name}:{document.line_of(place)}: {'.'.join(place)}: found {shown(column)}, "
                f"expected a column of the file: {_listed(columns)}{near}"
            )
    constant = mapping.event.value
    if constant in columns and folded(str(constant)) not in READERS:
        wrong.append(
            f"{name}:{document.line_of(('event',))}: event: found {shown(constant)}, which names every event so and "
            f"is a column of the file: expected {{column: {constant}, other: keep}}"
        )
    if wrong:
        raise MapInvalid(wrong)


def _listed(columns: list[str]) -> str:
    text = ", ".join(column[:40] for column in columns)
    return text if len(text) <= MAX_LISTED else text[:MAX_LISTED] + "…"


def _sentence(name: str, document: Document, error: Any) -> str:
    # A discriminated union adds its tag to the location, which is no key of the file.
    loc = [step for step in error["loc"] if step not in ("csv", "jsonl", "log")]
    path = ".".join(str(step) for step in loc) or "the map"
    where = f"{name}:{document.line_of(tuple(loc))}: {path}"
    kind, found = error["type"], shown(error["input"])
    if kind == "extra_forbidden":
        options = _siblings(loc)
        hint = nearest(loc[-1], options)
        near = f" (did you mean {hint}?)" if hint else ""
        return f"{where}: unknown key, expected one of {', '.join(options)}{near}"
    if kind == "missing":
        return f"{where}: missing"
    if kind == "literal_error":
        options = [str(o).strip("' ") for o in re.split(r",| or ", error["ctx"]["expected"])]
    elif kind.startswith("union_tag"):
        options = ["csv", "jsonl", "log"]
        tag = error["input"].get("kind") if isinstance(error["input"], dict) else None
        found, where = shown(tag), f"{where}.kind"
        hint = nearest(tag, options)
        return f"{where}: found {found}, expected one of csv, jsonl, log" + (f" (did you mean {hint}?)" if hint else "")
    else:
        message = error["msg"].removeprefix("Value error, ")
        if kind in ("model_type", "dict_type", "model_attributes_type"):
            message = "expected a mapping"
        return f"{where}: {message}" if kind == "value_error" else f"{where}: found {found}, {message}"
    hint = nearest(error["input"], options)
    near = f" (did you mean {hint}?)" if hint else ""
    return f"{where}: found {found}, expected one of {', '.join(options)}{near}"


def _siblings(loc: list[Any]) -> list[str]:
    model: Any = ReplayMap
    for step in loc[:-1]:
        if isinstance(step, int) or model is None:
            continue
        parts = model.model_fields[step] if step in getattr(model, "model_fields", {}) else None
        if parts is None:
            continue
        models = _models_in(parts.annotation)
        if not models:
            return []
        model = models[0]
        if len(models) > 1:
            return sorted({name for m in models for name in m.model_fields})
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in get_args(annotation) for m in _models_in(part)]
