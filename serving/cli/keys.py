"""`kairos keys`: issue, list and revoke the keys of a key file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import InvalidInput, NotFound
from serving.keys import HASH, KeyRecord, hash_key, new_key, parse_file

SHOWN = 12
"""So many digits of a key's hash are its name on the command line."""

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Issue, list and revoke API keys.")
File = Annotated[Path, typer.Option("--file", "-f", envvar="KAIROS_KEYS_FILE", help="The key file.")]
DEFAULT = Path("keys.jsonl")


@app.command()
def new(
    scopes: Annotated[str, typer.Option(help="What it opens: write, decide, admin; several with commas.")],
    *,
    label: Annotated[str, typer.Option(help="A name for people.")] = "",
    file: File = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="The key as JSON.")] = False,
) -> None:
    """Issue a key. It is shown once, here; the file keeps only its hash."""
    records = _read(file, must_exist=False)
    plain, record = new_key([scope.strip() for scope in scopes.split(",") if scope.strip()], label)
    _write(file, [*records, record])
    if as_json:
        typer.echo(json.dumps({"key": plain, "id": _name(record), "scopes": sorted(record.scopes), "label": label}))
        return
    typer.echo(plain)
    typer.echo(f"{_name(record)} with {_listed(record)} is in {file}; the key is not shown again", err=True)


@app.command("list")
def list_keys(
    *, file: File = DEFAULT, as_json: Annotated[bool, typer.Option("--json", help="The keys as JSON.")] = False
) -> None:
    """List the keys of the file: name, scopes, label."""
    records = _read(file)
    if as_json:
        rows = [{"id": _name(r), "scopes": sorted(r.scopes), "label": r.label} for r in records]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for record in records:
        typer.echo(f"{_name(record)}  {_listed(record):<20}  {record.label}".rstrip())
    if not records:
        typer.echo(f"{file}: no keys", err=True)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The name of the key (as `list` shows it), its label, or the key.")],
    *,
    file: File = DEFAULT,
) -> None:
    """Take a key out of the file; a running Kairos refuses it from its next start."""
    records = _read(file)
    digest = hash_key(key)
    meant = [r for r in records if r.hash == digest or r.label == key or (len(key) >= 6 and _id(r).startswith(key))]
    if not meant:
        raise NotFound("unknown_key", f"{file}: found no key {key!r}; `kairos keys list` shows them")
    if len(meant) > 1:
        names = ", ".join(_name(r) for r in meant)
        raise InvalidInput("ambiguous_key", f"{key!r} is {len(meant)} keys: {names}; name one of them")
    _write(file, [r for r in records if r is not meant[0]])
    typer.echo(f"{_name(meant[0])} is revoked")


def _read(file: Path, must_exist: bool = True) -> list[KeyRecord]:
    try:
        return parse_file(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        if must_exist:
            raise InvalidInput("no_key_file", f"{file}: no such file; `kairos keys new` makes it") from None
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("bad_keys", f"{file}: {error}") from None


def _write(file: Path, records: list[KeyRecord]) -> None:
    """Replace the file in one step, readable by nobody else."""
    fresh = file.with_name(f"{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.writelines(record.to_line() + "\n" for record in records)
        fresh.replace(file)
    except OSError as error:
        raise InvalidInput("bad_keys", f"{file}: {error.strerror or error}") from None


def _id(record: KeyRecord) -> str:
    return record.hash.removeprefix(HASH)


def _name(record: KeyRecord) -> str:
    return _id(record)[:SHOWN]


def _listed(record: KeyRecord) -> str:
    return ",".join(sorted(record.scopes))
