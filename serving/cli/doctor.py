"""`kairos doctor`: what is wrong on this machine, and what mends it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from serving.doctor import Finding, examine

MARKS = {"ok": ("ok", typer.colors.GREEN), "note": ("note", typer.colors.YELLOW), "wrong": ("WRONG", typer.colors.RED)}


def doctor(
    *,
    data_dir: Annotated[Path, typer.Option(help="The data directory of the Kairos that is meant.")] = Path(".kairos"),
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port it serves, or is to serve.")] = 8000,
    redis_url: Annotated[str | None, typer.Option(envvar="REDIS_URL", help="The store, if not embedded.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Look at everything Kairos needs and name each thing that is wrong with its mend. Exit code 1: something is."""
    found = asyncio.run(examine(data_dir, port, redis_url or None))
    n_wrong = sum(one.state == "wrong" for one in found)
    if as_json:
        typer.echo(json.dumps({"well": not n_wrong, "findings": [asdict(one) for one in found]}, ensure_ascii=False))
    else:
        for one, after in zip(found, [*found[1:], None], strict=True):
            typer.echo(_line(one))
            if one.mend and (after is None or after.mend != one.mend):
                typer.echo(f"{'':22}mend: {one.mend}")
        typer.echo("all is well" if not n_wrong else f"{n_wrong} to mend")
    if n_wrong:
        raise typer.Exit(1)


def _line(one: Finding) -> str:
    mark, colour = MARKS[one.state]
    padded = f"{mark:<6}"
    return f"{typer.style(padded, fg=colour) if sys.stdout.isatty() else padded}{one.what:<16}{one.found}"
