"""`kairos backtest`: rows of a table in file order through the online loop, beside a model frozen at the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from training.backtest import Backtest, Figures
    from training.online import Look

SHOWN_BAD_ROWS = 5


def backtest(
    source: Annotated[
        Path, typer.Option("--from", help="A table in time order: CSV, JSON lines, Parquet; gzip or not.")
    ],
    label: Annotated[str, typer.Option(help="The column that says whether it converted.")],
    *,
    positive: Annotated[str | None, typer.Option(help="The value of the label that is a conversion.")] = None,
    drop: Annotated[str, typer.Option(help="Columns to leave out; several with commas.")] = "",
    time: Annotated[str | None, typer.Option(help="The column to sort by, if the file is not in time order.")] = None,
    start: Annotated[int, typer.Option(help="The first rows, that the frozen model learns from.")] = 10_000,
    every: Annotated[int, typer.Option(help="Rows between two looks of the loop.")] = 1_000,
    window: Annotated[int | None, typer.Option(min=100, help="Rows kept and learned from; else as the start.")] = None,
    retrain_every: Annotated[int, typer.Option(min=1, help="Looks between two retrainings without drift.")] = 5,
    seed: Annotated[int, typer.Option(help="The same seed and table give the same figures.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Figures and every look as JSON.")] = False,
) -> None:
    """Would a model that learns by itself have done better than one frozen at the start?"""
    from training.backtest import backtest_from_table
    from training.online import Policy

    dropped = [name.strip() for name in drop.split(",") if name.strip()]
    policy = Policy(window=start if window is None else window, retrain_every=retrain_every)
    result = backtest_from_table(
        source, label, positive, dropped, start, every, seed, time=time, policy=policy,
        seen=None if as_json else lambda look: typer.echo(_look_line(look)),
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(_facts(result), ensure_ascii=False))
        return
    for line in _lines(result):
        typer.echo(line)


def _look_line(look: Look) -> str:
    done = "promoted"
    if not look.promoted:
        done = f"{'waits' if look.recipe == 'wait' else 'refused'}: {look.judgement.why_not}"
    back = "rolled back; " if look.rolled_back else ""
    causes = ", ".join(dict.fromkeys(alarm.cause for alarm in look.alarms))
    return f"row {look.at_row:>8,}  {back}{look.recipe:<7} on {look.why:<8}  {done}" + (
        f"  [drift: {causes}]" if causes else ""
    )


def _lines(result: Backtest) -> list[str]:
    alarms = ", ".join(f"{n} {cause}" for cause, n in result.alarms.items()) or "none"
    return [
        f"rows        {result.n_rows:,} after the first {result.start:,}, {result.n_positive:,} converted "
        f"({result.n_positive / result.n_rows:.1%}), {len(result.features)} features",
        f"{'':12}{'AUC':>8}{'log-loss':>10}{'Brier':>8}{'pred/obs':>10}",
        _figure_line("online", result.online),
        _figure_line("frozen", result.frozen),
        f"base rate   {'':8}{result.base_log_loss:>10.4f}",
        f"difference  {result.online.auc - result.frozen.auc:>+8.4f}"
        f"{result.online.log_loss - result.frozen.log_loss:>+10.4f}",
        f"drift       {alarms}",
        f"candidates  {result.n_promoted} promoted, {result.n_refused} refused, {result.n_rolled_back} rolled back",
        *(f"note        {note}" for note in result.notes),
        *(f"left out    line {bad.line}: {bad.reason}" for bad in result.bad[:SHOWN_BAD_ROWS]),
        *([f"left out    {len(result.bad):,} rows in all"] if len(result.bad) > SHOWN_BAD_ROWS else []),
    ]


def _figure_line(name: str, f: Figures) -> str:
    return f"{name:<12}{f.auc:>8.4f}{f.log_loss:>10.4f}{f.brier:>8.4f}{f.calibration_ratio:>10.3f}"


def _facts(result: Backtest) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "n_rows": result.n_rows, "n_positive": result.n_positive, "start": result.start, "every": result.every,
        "seed": result.seed, "features": list(result.features),
        "online": asdict(result.online), "frozen": asdict(result.frozen), "base_log_loss": result.base_log_loss,
        "difference": {"auc": result.online.auc - result.frozen.auc,
                       "log_loss": result.online.log_loss - result.frozen.log_loss},
        "alarms": result.alarms, "promoted": result.n_promoted, "refused": result.n_refused,
        "rolled_back": result.n_rolled_back, "looks": [asdict(look) for look in result.looks],
        "notes": list(result.notes), "bad": [asdict(bad) for bad in result.bad],
    }  # fmt: skip
