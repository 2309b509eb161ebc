"""`kairos dry-run`: which recent decisions a book would change, before it is in force."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.books import read_book_file
from serving.remote import remote

SHOWN = 8
"""Examples that are told; `--json` has all that were answered."""
Json = dict[str, Any]


def dry_run(
    file: Annotated[Path, typer.Argument(help="The proposed book in YAML or JSON.")],
    *,
    url: Annotated[str, typer.Option(envvar="KAIROS_URL", help="Where Kairos is.")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(envvar="KAIROS_KEY", help="A key with the admin scope.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="The newest decisions of each shard.")] = 500,
    as_json: Annotated[bool, typer.Option("--json", help="The whole answer as JSON.")] = False,
) -> None:
    """Take recent decisions again by a proposed book and tell which come out otherwise, and why. Changes nothing.

    Exit code 2: the book is not valid, with every mistake and its line.
    """
    read_book_file(file)  # a mistake is told with its file and line before anybody is asked
    path = f"/v1/campaigns/dry-run?limit={limit}"
    found = remote("POST", url, path, key, file.read_bytes(), "application/yaml")
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for line in told(found):
        typer.echo(line)


def told(found: Json) -> Iterator[str]:
    """The answer in lines of plain text."""
    n, changed = found["decisions"], found["changed"]
    if not n:
        yield f"nothing to compare: no decision in the journals that book {found['book']} could be compared by"
        return
    yield f"decisions   {n:,} from {_when(found['from'])} to {_when(found['until'])}, against book {found['book']}"
    yield f"changed     {changed:,} of {n:,} ({changed / n:.1%})"
    figures = found["kinds"].get("figures", 0)
    kinds = [f"{kind} {count:,}" for kind, count in found["kinds"].items() if kind != "figures"]
    if kinds:
        yield "kinds       " + ", ".join(kinds)
    if figures:
        yield f"            and {figures:,} with other figures and the same answer"
    yield from _counts("segments", found["segments"], "entered", "left")
    yield from _counts("offers", found["offers"], "gained", "lost")
    for offer, reasons in found["reasons"].items():
        ranked = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        yield f"reasons     {offer}: " + ", ".join(f"{text} {count:,}" for text, count in ranked)
    for example in found["examples"][:SHOWN]:
        yield from _example(example)
    if changed > SHOWN:
        yield f"            … and {changed - SHOWN:,} more; their ids are in --json"
    yield from _notes(found)


def _counts(title: str, rows: Json, came: str, went: str) -> Iterator[str]:
    moved = {key: row for key, row in rows.items() if row[came] or row[went]}
    for n, (key, row) in enumerate(moved.items()):
        head = title if not n else ""
        yield f"{head:12}{key}: {row['before']:,} → {row['after']:,} ({came} {row[came]:,}, {went} {row[went]:,})"


def _example(example: Json) -> Iterator[str]:
    was, now = (", ".join(example[side]["items"]) or "nothing" for side in ("before", "after"))
    yield f"example     {example['decisionId']} on {example['placement']}: shows {was} → {now}"
    for why in example["why"]:
        yield f"              {why['what']}{' ' + why['change'] if 'change' in why else ''}: {why['text']}"


def _notes(found: Json) -> Iterator[str]:
    if again := found["decidedAgain"]:
        yield f"note        {again:,} were recorded under earlier versions; both books decided them again"
    if unreadable := found["unreadable"]:
        yield f"note        {unreadable:,} were recorded under another feature schema, and are left out"
    for missing in found["missing"]:
        yield f"missing     shard {missing['shard']}: {missing['message']} ({missing['code']})"
    for warning in found["warnings"]:
        yield f"warning     {warning}"


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
