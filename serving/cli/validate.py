"""`kairos validate`: check a campaign book."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.books import BookFile, BookFileInvalid, Placed, read_book, read_book_file


def validate(
    files: Annotated[list[Path], typer.Argument(help="Books in YAML or JSON; - is standard input.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON, a line for each book.")] = False,
) -> None:
    """Check campaign books: all mistakes at once, as file:line: path: found, expected (did you mean …).

    Exit code 0: all are valid, 1: one is not, 2: there is no such file.
    """
    valid = [_is_valid(file, as_json) for file in files]
    if not all(valid):
        raise typer.Exit(1)


def _is_valid(file: Path, as_json: bool) -> bool:
    try:
        book = _read(file)
    except BookFileInvalid as invalid:
        _tell_errors(file, invalid.placed, as_json)
        return False
    if as_json:
        found = {"valid": True, "file": str(file), **_counts(book), "warnings": [_row(w) for w in book.warnings]}
        typer.echo(json.dumps(found, ensure_ascii=False))
        return True
    for warning in book.warnings:
        typer.echo(f"{warning.file}:{warning.line}: warning: {warning.finding.text()}", err=True)
    counts = ", ".join(_many(n, what) for what, n in _counts(book).items())
    typer.echo(f"{file}: ok: {counts}, {_many(len(book.warnings), 'warnings')}")
    return True


def _read(file: Path) -> BookFile:
    if str(file) == "-":
        return read_book(typer.get_binary_stream("stdin").read(), "-")
    return read_book_file(file)


def _tell_errors(file: Path, placed: list[Placed], as_json: bool) -> None:
    if as_json:
        errors = [_row(one) for one in placed]
        typer.echo(json.dumps({"valid": False, "file": str(file), "errors": errors}, ensure_ascii=False))
        return
    for one in placed:
        typer.echo(one.text(), err=True)
    typer.echo(f"{file}: {_many(len(placed), 'mistakes')}", err=True)


def _row(one: Placed) -> dict[str, Any]:
    finding = one.finding
    return {
        "file": one.file, "line": one.line, "path": finding.path, "code": finding.code, "message": finding.message,
        "found": finding.found, "expected": finding.expected, "nearest": finding.nearest,
    }  # fmt: skip


def _counts(book: BookFile) -> dict[str, int]:
    campaigns = book.book.model.campaigns.values()
    return {
        "campaigns": len(campaigns),
        "segments": sum(len(c.segments) for c in campaigns),
        "offers": sum(len(c.offers) for c in campaigns),
        "experiments": sum(len(c.experiments) for c in campaigns),
    }


def _many(n: int, what: str) -> str:
    return f"{n} {what.removesuffix('s') if n == 1 else what}"
