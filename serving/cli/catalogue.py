"""`kairos catalogue import FILE`: give the shop's products, prices, margins and stock to a running Kairos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.errors import InvalidInput
from serving.remote import remote

HELP = "The shop's products: import them, see which are in force."
app = typer.Typer(add_completion=False, no_args_is_help=True, help=HELP)
Url = Annotated[str, typer.Option("--url", help="Where Kairos answers.")]
Key = Annotated[str | None, typer.Option("--key", envvar="KAIROS_KEY", help="A key with scope admin.")]
DEFAULT_URL = "http://127.0.0.1:8000"
PATH = "/v1/catalogue"


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV, tab-separated values, or a Google Merchant feed in XML.")],
    *,
    url: Url = DEFAULT_URL,
    key: Key = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave rows out that cannot be read.")] = False,
) -> None:
    """Replace the catalogue by a file. All or nothing, unless --skip-bad."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise InvalidInput("no_such_file", f"{file}: {error.strerror or error}") from None
    path = f"{PATH}?skipBad=true" if skip_bad else PATH
    told = remote("PUT", url, path, key, raw, "application/octet-stream")
    for line in told.get("skipped", ()):
        typer.echo(f"left out: {line}", err=True)
    out = f", {told['out_of_stock']} of them out of stock" if told.get("out_of_stock") else ""
    typer.echo(f"{told['version']}: {told['products']} products{out}")


@app.command("show")
def show(*, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Which catalogue is in force."""
    told = remote("GET", url, PATH, key)
    typer.echo(f"{told['version']}: {told['products']} products" if told.get("version") else "no catalogue is in force")
