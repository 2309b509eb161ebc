"""`kairos cohorts`: labels and traits of known visitors from a CSV file, through the public API."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer

from engine.errors import InvalidInput
from engine.moments import parse_moment
from serving.cli.replay import summary_lines
from serving.cohorts import cohort_events
from serving.replay import Replay, Summary
from serving.rows import Malformed, open_text

SHOWN_MALFORMED = 20
app = typer.Typer(add_completion=False, no_args_is_help=True, help="Cohorts: labels and traits from a CSV file.")


@app.callback()
def cohorts() -> None:
    """Labels and traits of known visitors, usable in every condition as `cohort` and `trait.NAME`."""


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV with userId or anonymousId, cohort, and traits; gzip or not.")],
    *,
    cohort: Annotated[str | None, typer.Option(help="The cohort of every row, where no column names it.")] = None,
    as_of: Annotated[str | None, typer.Option(help="When this was so; else when the file was last changed.")] = None,
    url: Annotated[str, typer.Option(help="Where Kairos is.")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(envvar="KAIROS_KEY", help="A key with the write scope.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Send each row as group and identify events. Importing the same file again changes nothing."""
    t_ms = _moment(file, as_of)
    began = time.monotonic()
    summary = asyncio.run(_send(file, cohort, t_ms, url, key))
    if as_json:
        typer.echo(json.dumps(summary.to_dict()))
    else:
        for line in summary_lines(summary, time.monotonic() - began):
            typer.echo(line)
    if summary.n_events in (0, summary.n_rejected):
        raise typer.Exit(1)


def _moment(file: Path, as_of: str | None) -> int:
    if as_of is not None:
        t_ms = parse_moment(as_of)
        if t_ms is None:
            raise InvalidInput("bad_time", f"--as-of: found {as_of!r}, expected ISO 8601, as in 2026-11-24T08:00Z")
        return t_ms
    try:
        return int(file.stat().st_mtime * 1000)
    except OSError as error:
        raise InvalidInput("file_unreadable", f"{file}: {error.strerror}") from None


async def _send(file: Path, cohort: str | None, t_ms: int, url: str, key: str | None) -> Summary:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    shown = 0

    def report(line: Malformed) -> None:
        nonlocal shown
        shown += 1
        if shown <= SHOWN_MALFORMED:
            typer.echo(f"{file}:{line.line}: skipped: {line.reason}", err=True)

    with open_text(file) as text:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30.0) as client:
            # History only: who is in a cohort now was not doing anything just now.
            sender = Replay(client, backfill=True, on_malformed=report)
            return await sender.run(cohort_events(text, str(file), t_ms, cohort))
