"""`kairos train`: fit the conversion model on a table, or have the running Kairos learn from its visitors."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import InvalidInput
from serving.running import store_address

if TYPE_CHECKING:
    from training.fit import Model
    from training.train import TrainResult

SHOWN_BAD_ROWS = 5
LOCAL = "http://127.0.0.1:8000"


def train(
    ctx: typer.Context,
    *,
    source: Annotated[
        Path | None, typer.Option("--from", help="A table: CSV with a header, JSON lines or Parquet; gzip or not.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="The column that says whether it converted.")] = None,
    positive: Annotated[str | None, typer.Option(help="The value of the label that is a conversion.")] = None,
    drop: Annotated[str, typer.Option(help="Columns to leave out; several with commas.")] = "",
    cv: Annotated[int, typer.Option(min=2, max=50, help="In how many parts rows are held out in turn.")] = 5,
    time_order: Annotated[
        bool, typer.Option("--time-order", help="Rows are in time order: hold out the last part instead.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed and table give the same model.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A folder for model.txt and card.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Metrics, leaks and notes (or the run) as JSON.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Put it in force in the running Kairos.")] = False,
    data_dir: Annotated[Path, typer.Option(help="The data directory of the running Kairos.")] = Path(".kairos"),
    redis_url: Annotated[str | None, typer.Option(envvar="REDIS_URL", help="The store, if not embedded.")] = None,
    url: Annotated[str, typer.Option(envvar="KAIROS_URL", help="Without --from: where Kairos is.")] = LOCAL,
    key: Annotated[str | None, typer.Option(envvar="KAIROS_KEY", help="A key with the admin scope.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Without --from: retrain or refit.")] = None,
    target: Annotated[str, typer.Option(help="Without --from: conversion or churn.")] = "conversion",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Without --from: follow it to its end.")] = True,
) -> None:
    """Fit the conversion model on a table; the figures are of rows it was not fitted on.

    Without --from the running Kairos is asked to train on what its visitors did; exit code 1: nothing came of it.
    """
    if source is None:
        ask_running(url, key, recipe, target, wait, as_json)
        return
    if label is None:
        raise typer.BadParameter("--from needs --label, the column that says whether a row converted", ctx=ctx)
    address = store_address(redis_url or None, data_dir) if publish else None
    from training.train import train_from_table, write_model

    dropped = [name.strip() for name in drop.split(",") if name.strip()]
    result = train_from_table(source, label, positive, dropped, cv, time_order, seed)
    if out is not None:
        try:
            write_model(result, out)
        except OSError as error:
            raise InvalidInput("bad_out", f"{out}: {error.strerror or error}") from None
    if address is not None:
        leak = next((leak for leak in result.leaks if leak.sure), None)
        if leak is not None:
            raise InvalidInput("leaking", f"not published: {leak.sentence()}")
        asyncio.run(put_in_force(result.model, address))
    if as_json:
        typer.echo(json.dumps(_facts(result, out, address is not None), ensure_ascii=False))
        return
    for line in _lines(result):
        typer.echo(line)
    if out is not None:
        typer.echo(f"written     {out}")
    if address is not None:
        typer.echo("in force    yes; shards take it up within seconds")


def ask_running(url: str, key: str | None, recipe: str | None, target: str, wait: bool, as_json: bool) -> None:
    """Have the running Kairos train; exits with 1 where it ends without a candidate."""
    from serving.remote import remote
    from serving.training_told import follow, told

    body = {"target": target, **({"recipe": recipe} if recipe else {})}
    asked = remote("POST", url, "/v1/train", key, body)
    if not wait:
        joined = ", which waited already" if asked["joined"] else ""
        typer.echo(json.dumps(asked) if as_json else f"training    {asked['runId']}{joined}")
        return
    run = follow(url, asked["runId"], key, lambda line: typer.echo(line, err=True))
    if as_json:
        typer.echo(json.dumps(run, ensure_ascii=False))
    else:
        for line in told(run):
            typer.echo(line)
    if run["candidate"] is None:
        raise typer.Exit(1)


async def put_in_force(model: Model, address: str) -> None:
    """Keep a model in the store and move the pointer to it.

    Raises:
        InvalidInput: `not_servable`, the table does not have the engine's columns.
    """
    from actors.publishing import Publisher
    from actors.valkey import valkey_stores
    from training.registry import Registry

    if not model.card.servable:
        raise InvalidInput("not_servable", f"this model cannot answer visitors: {model.card.why_not}")
    stores = valkey_stores(address)
    try:
        version = await Registry(stores.versions).add(model)
        # Nobody is told: a shard reads the pointer by itself within its polling interval.
        publisher = Publisher(stores.versions, stores.table, None, lambda: time.time_ns() // 1_000_000)
        await publisher.publish_model(version)
    finally:
        await stores.close()


def _lines(result: TrainResult) -> list[str]:
    card, m = result.card, result.metrics
    servable = "yes" if card.servable else f"no: {card.why_not}"
    return [
        f"model       {card.version}",
        f"rows        {card.n_rows:,}, {card.n_positive:,} converted ({card.n_positive / card.n_rows:.1%}), "
        f"{len(card.features)} features",
        f"held out    {m.scheme}, {m.n_rows:,} rows",
        f"AUC         {m.auc:.4f}",
        f"log-loss    {m.log_loss:.4f}, of the base rate {m.base_log_loss:.4f}",
        f"Brier       {m.brier:.4f}",
        f"calibration predicted {m.calibration_ratio:.3f} × observed, error {m.calibration_error:.4f}",
        f"servable    {servable}",
        *(f"leak?       {leak.sentence()}" for leak in result.leaks),
        *(f"note        {note}" for note in result.notes),
        *(f"left out    line {bad.line}: {bad.reason}" for bad in result.bad[:SHOWN_BAD_ROWS]),
        *([f"left out    {len(result.bad):,} rows in all"] if len(result.bad) > SHOWN_BAD_ROWS else []),
    ]


def _facts(result: TrainResult, out: Path | None, published: bool) -> dict[str, Any]:
    card = result.card.model_dump(mode="json")
    return {
        "version": card["version"], "servable": card["servable"], "why_not": card["why_not"],
        "n_rows": card["n_rows"], "n_positive": card["n_positive"], "features": card["features"],
        "metrics": card["metrics"], "out": None if out is None else str(out), "published": published,
        "leaks": [{"column": leak.column, "message": leak.sentence()} for leak in result.leaks],
        "notes": list(result.notes), "bad": [{"line": bad.line, "reason": bad.reason} for bad in result.bad],
    }  # fmt: skip
