"""Unit costs from a `bench.json`, so that a plan rests on the machine it is for."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

from engine.errors import InvalidInput
from serving.plan import UnitCosts


def read_costs(path: Path | None) -> UnitCosts:
    """The shipped costs, with those that the file's `unit cost: NAME` rows measure put in their place.

    Raises:
        InvalidInput: `bad_costs`, the file is no bench.json or names no cost.
    """
    if path is None:
        return UnitCosts()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = {
            str(row["name"]).removeprefix("unit cost: "): float(row["value"])
            for row in rows
            if str(row.get("name", "")).startswith("unit cost: ")
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput("bad_costs", f"{path}: expected a bench.json: {error}") from None
    known = {field.name for field in fields(UnitCosts)}
    if not found or not set(found) <= known:
        expected = ", ".join(sorted(known))
        raise InvalidInput("bad_costs", f"{path}: found {sorted(found)}, expected rows `unit cost: …` of {expected}")
    return replace(UnitCosts(), **found)
