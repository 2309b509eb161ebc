"""`kairos replay`: send a file of events to a running Kairos."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from engine.errors import InvalidInput
from serving.map_files import check_columns, load_map
from serving.mapped import EventMapper, Mapped
from serving.mapping import CsvFormat
from serving.replay import Pace, Replay, Summary, mapped_rows
from serving.rows import BROKEN_GZIP, Malformed, csv_columns, open_text, rows

SHOWN_MALFORMED = 20


def replay(
    file: Annotated[Path, typer.Argument(help="CSV, JSON lines or a log; gzip or not; - for standard input.")],
    *,
    map: Annotated[Path, typer.Option("--map", help="A map in YAML, or a shipped one: eshop, otto, weblog.")],
    url: Annotated[str, typer.Option(help="Where Kairos is.")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(envvar="KAIROS_KEY", help="A key with the write scope.")] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=1e-6, help="As if live: gaps of the file divided by N, events stamped when they are sent."),
    ] = None,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Build history only: no budgets, experiments or alarms.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Send a file of events to /v1/batch. Running it again changes nothing: the same rows have the same ids."""
    problems = Console(stderr=True, highlight=False)
    if backfill and speed is not None:
        raise InvalidInput(
            "two_times", "--backfill keeps the times of the file, --speed replaces them: give one of them"
        )
    began = time.monotonic()
    try:
        summary = asyncio.run(_replay(file, map, _Target(url, key, Pace(speed), backfill, limit), problems))
    except KeyboardInterrupt:
        problems.print("stopped; run it again to go on: what has arrived counts once")
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(summary.to_dict()))
    else:
        for line in summary_lines(summary, time.monotonic() - began):
            typer.echo(line)
    if summary.n_events in (0, summary.n_rejected):
        raise typer.Exit(1)


def summary_lines(summary: Summary, seconds: float) -> list[str]:
    """The end of a replay, for people."""
    about = "" if summary.profiles.exact else "about "
    codes = ", ".join(f"{code} {n:,}" for code, n in summary.rejected.most_common())
    lines = [
        f"lines       {summary.n_lines:>12,}   malformed {summary.n_malformed:,}, left out {summary.n_skipped:,}",
        f"events      {summary.n_events:>12,}   of {about}{summary.profiles.count:,} profiles",
        f"accepted    {summary.n_accepted:>12,}",
        f"duplicates  {summary.n_duplicates:>12,}",
        f"rejected    {summary.n_rejected:>12,}" + (f"   {codes}" if codes else ""),
    ]
    rate = summary.n_answered / seconds if seconds > 0 else 0.0
    retries = f", {summary.n_retries:,} retries" if summary.n_retries else ""
    return [*lines, f"in {seconds:.1f} s, {rate:,.0f} events/s{retries}"]


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    key: str | None
    pace: Pace
    backfill: bool
    limit: int | None


async def _replay(file: Path, map_path: Path, target: _Target, problems: Console) -> Summary:
    mapping, text_of_map = load_map(map_path)
    headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}
    shown = 0

    def report(line: Malformed) -> None:
        nonlocal shown
        shown += 1
        if shown <= SHOWN_MALFORMED:
            problems.print(f"{file}:{line.line}: skipped: {line.reason}", markup=False, soft_wrap=True)
        elif shown == SHOWN_MALFORMED + 1:
            problems.print("further malformed lines are only counted")

    with open_text(file) as text:
        try:
            columns = None
            if isinstance(mapping.format, CsvFormat):
                columns, separator = csv_columns(text, mapping.format)
                if not columns:
                    raise InvalidInput("file_unreadable", "found nothing, expected a line that names the columns")
                check_columns(mapping, columns, text_of_map, str(map_path))
                chosen = mapping.format.model_copy(update={"separator": separator})
                mapping = mapping.model_copy(update={"format": chosen})
            async with httpx.AsyncClient(base_url=target.url, headers=headers, timeout=30.0) as client:
                sender = Replay(client, backfill=target.backfill, pace=target.pace, on_malformed=report)
                events = mapped_rows(rows(text, mapping, columns), EventMapper(mapping), sender.summary, target.limit)
                return await _with_progress(sender, events, problems)
        except BROKEN_GZIP as error:
            raise InvalidInput("file_unreadable", f"{file}: the gzip is broken: {error}") from None
        except InvalidInput as error:
            named = f"{file}: {error.message}" if error.code == "file_unreadable" else error.message
            raise InvalidInput(error.code, named) from None


async def _with_progress(sender: Replay, events: Iterable[Mapped | Malformed], problems: Console) -> Summary:
    if not problems.is_terminal:
        return await sender.run(events)
    parts = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*parts, console=problems, transient=True) as progress:
        task = progress.add_task("sending", total=None)
        running = asyncio.ensure_future(sender.run(events))
        while not running.done():
            s = sender.summary
            progress.update(task, description=f"{s.n_events:,} events read, {s.n_answered:,} answered")
            await asyncio.wait([running], timeout=0.2)
        return running.result()
