"""`kairos up`: start the whole system in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def up(
    *,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Where to serve.", show_default="8000")] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Which address to serve on; beyond loopback keys are required.", show_default="127.0.0.1"),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where the embedded store and the record of a run are.", show_default=".kairos"),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="How many shard actors hold the profiles.", show_default="half of the processors"
        ),
    ] = None,
    ingress: Annotated[int, typer.Option(min=1, max=256, help="How many replicas take requests.")] = 1,
    redis_url: Annotated[
        str | None, typer.Option(envvar="REDIS_URL", help="A Valkey or Redis (7.2+) in place of the embedded one.")
    ] = None,
    book: Annotated[
        Path | None, typer.Option(help="Put this campaign book in force; else the one in force stays.")
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="Settings in YAML; options here come before them.")] = None,
    keys: Annotated[Path | None, typer.Option(help="The key file (`kairos keys new`).")] = None,
    allow_weak_store: Annotated[
        bool, typer.Option("--allow-weak-store", help="Run on a store that may lose what it acknowledged.")
    ] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Ray's dashboard on loopback; `ray job submit` needs it.")
    ] = False,
) -> None:
    """Start Kairos; prints one line `ready http://…` when a request has really been answered. Ctrl-C stops it."""
    from serving.up import run_up
    from serving.up_options import UpOptions

    options = UpOptions(
        port=port, host=host, data_dir=data_dir, n_shards=shards, n_ingress=ingress, redis_url=redis_url or None,
        book=book, allow_weak_store=allow_weak_store, dashboard=dashboard, settings=settings, keys=keys,
    )  # fmt: skip
    raise typer.Exit(run_up(options))
