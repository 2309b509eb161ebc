"""`kairos calibrate`: thresholds of a segment from recorded sessions and what came of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.book import CompiledBook, compile_book
from engine.errors import InvalidInput
from serving.books import load_book_file
from serving.running import store_address

if TYPE_CHECKING:
    from actors.calibrating import Sessions, Tunable
    from training.thresholds import Point


def calibrate(
    segment: Annotated[str, typer.Argument(help="A segment of the book: NAME or CAMPAIGN.NAME.")],
    *,
    target_precision: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of members who must be right.")
    ] = 0.8,
    outcome: Annotated[str, typer.Option(help="What makes a member right: converts or leaves.")] = "converts",
    book: Annotated[Path | None, typer.Option(help="A book file; else the one in force.")] = None,
    data_dir: Annotated[Path, typer.Option(help="The data directory of the running Kairos.")] = Path(".kairos"),
    redis_url: Annotated[str | None, typer.Option(envvar="REDIS_URL", help="The store, if not embedded.")] = None,
    archive: Annotated[str | None, typer.Option(envvar="KAIROS_ARCHIVE__PLACE", help="The archive's place.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Propose the threshold of each number the segment compares, with its precision/recall curve.

    Every other clause stays as the book has it. Nothing is changed: put what you like into the book, and dry-run it.
    """
    if outcome not in ("converts", "leaves"):
        raise InvalidInput("bad_outcome", f"--outcome: found {outcome!r}, expected converts or leaves")
    place = archive or str(data_dir.absolute() / "archive")
    sessions = asyncio.run(_read(store_address(redis_url or None, data_dir), place, segment, book))
    found = proposals(sessions, target_precision, outcome)
    if as_json:
        typer.echo(json.dumps({"segment": segment, "outcome": outcome, "targetPrecision": target_precision, **found}))
        return
    for line in lines_of(sessions, target_precision, outcome):
        typer.echo(line)


async def _read(address: str, place: str, segment: str, file: Path | None) -> Sessions:
    import orjson

    from actors.archive import open_archive
    from actors.calibrating import recorded_sessions
    from actors.history import History
    from actors.hosting import epoch_ms
    from actors.segments import Segments
    from actors.valkey import valkey_stores
    from engine.book import load_book

    stores = valkey_stores(address)
    try:
        compiled: CompiledBook
        if file is not None:
            compiled = compile_book(load_book_file(file), "file")
        else:
            version = (await stores.versions.world())["book"]
            kept = await stores.versions.get("book", version)
            if kept is None:
                raise InvalidInput("no_book", "no book is in force there: name one with --book")
            compiled = compile_book(load_book(orjson.loads(kept[1])), version)
        history = History(stores.journal, Segments(open_archive(place)), foreign=True)
        return await recorded_sessions(stores, history, compiled, segment, epoch_ms)
    finally:
        await stores.close()


def proposals(sessions: Sessions, target: float, outcome: str) -> dict[str, Any]:
    """Each clause with the threshold in force, the one proposed, and the curve, as JSON."""
    from training.thresholds import propose, standing

    told = []
    for clause, points in _curves(sessions, outcome):
        now, proposed = standing(points, clause.sign * clause.threshold), propose(points, target)
        told.append({
            "path": clause.path, "feature": clause.feature, "op": clause.op, "threshold": clause.threshold,
            "now": None if now is None else _point(clause, now),
            "proposed": None if proposed is None else _point(clause, proposed),
            "curve": [_point(clause, point) for point in points],
        })  # fmt: skip
    return {"sessions": len(sessions.converted), "waiting": sessions.n_waiting, "clauses": told}


def lines_of(sessions: Sessions, target: float, outcome: str) -> list[str]:
    """The same for a person, with the curves drawn."""
    from training.thresholds import draw, propose, standing

    lines = [
        f"{len(sessions.converted):,} sessions with an outcome; right is who {outcome} within the campaign's window"
    ]
    if sessions.n_waiting:
        lines.append(f"{sessions.n_waiting:,} more wait for the end of that window")
    for clause, points in _curves(sessions, outcome):
        lines += ["", f"{clause.path}  {clause.feature} {clause.op}", *draw(points, target)]
        now, proposed = standing(points, clause.sign * clause.threshold), propose(points, target)
        lines.append(f"in force  {clause.op} {clause.threshold:g}: {_said(now)}")
        if not points:
            lines.append("proposed  none: no session fulfilled the other clauses, whatever this threshold")
        elif proposed is None:
            best = max(points, key=lambda point: point.precision)
            lines.append(f"proposed  none: no threshold reaches {target:.0%}; the best is {_said(best)}")
        else:
            lines.append(f"proposed  {clause.op} {clause.sign * proposed.value:.4g}: {_said(proposed)}")
    return lines


def _curves(sessions: Sessions, outcome: str) -> list[tuple[Tunable, list[Point]]]:
    from training.thresholds import curve

    if not sessions.clauses:
        raise InvalidInput("no_thresholds", "the segment compares no number with above or below")
    names = list(sessions.converted)
    right = [sessions.converted[name] == (outcome == "converts") for name in names]
    try:
        return [(one, curve([one.scores[name] for name in names], right)) for one in sessions.clauses]
    except InvalidInput as refused:
        if refused.code != "too_few_sessions" or not sessions.n_waiting:
            raise
        waits = f"{sessions.n_waiting:,} more wait for the end of the campaign's window and a minute"
        raise InvalidInput(refused.code, f"{refused.message}; {waits}") from None


def _point(clause: Tunable, point: Point) -> dict[str, Any]:
    return {"threshold": clause.sign * point.value, "sessions": point.n, "precision": point.precision,
            "precisionAtLeast": point.lower, "recall": point.recall}  # fmt: skip


def _said(point: Point | None) -> str:
    if point is None:
        return "lets nobody in"
    return (
        f"precision {point.precision:.1%} (at least {point.lower:.1%}), recall {point.recall:.1%}, {point.n:,} sessions"
    )
