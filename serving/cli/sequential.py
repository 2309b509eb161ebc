"""`kairos sequential`: a test read look by look, and when it would have stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import InvalidInput

if TYPE_CHECKING:
    from training.sequential import Reading, Replay, Stop

SHOWN_SERIES, SHOWN_LOOKS, SHOWN_BAD_ROWS = 25, 12, 5


def sequential(
    source: Annotated[Path, typer.Option("--from", help="One look a row: n, mean, variance of both arms, or counts.")],
    *,
    alpha: Annotated[float, typer.Option(help="The chance of a false alarm, over all looks together.")] = 0.05,
    margin: Annotated[float, typer.Option(help="The loss of the challenger that is tolerated; 0.1 = 10 %.")] = 0.1,
    share: Annotated[float, typer.Option(help="The challenger's planned share of users.")] = 0.5,
    arms: Annotated[str, typer.Option(help="What ends the column names of champion and challenger: old,new.")] = "",
    by: Annotated[str, typer.Option(help="Columns that tell several tests apart; with commas.")] = "",
    tuned_for: Annotated[float, typer.Option(help="Users at which intervals are tightest.")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Every look as JSON.")] = False,
) -> None:
    """Any-time valid intervals and e-values at each look, and the look at which the test would have ended."""
    from training.looks import read_looks
    from training.sequential import replay

    names = [name.strip() for name in arms.split(",")] if arms else []
    if arms and (len(names) != 2 or not all(names)):
        raise InvalidInput("bad_arms", f"--arms: expected two endings with a comma between; found {arms!r}")
    looks = read_looks(
        source, (names[0], names[1]) if arms else None, tuple(n.strip() for n in by.split(",")) if by else None
    )
    found = {
        key: replay(series, alpha=alpha, margin=margin, share=share, tuned_for=tuned_for)
        for key, series in looks.series.items()
    }
    if as_json:
        typer.echo(json.dumps({
            "alpha": alpha, "margin": margin, "share": share, "tuned_for": tuned_for, "columns": looks.columns,
            "series": [{"name": key, **_facts(one)} for key, one in found.items()],
            "bad": [{"line": bad.line, "reason": bad.reason} for bad in looks.bad],
        }, ensure_ascii=False))  # fmt: skip
        return
    if len(found) == 1:
        _tell(next(iter(found.values())), alpha)
    else:
        for key, one in list(found.items())[:SHOWN_SERIES]:
            typer.echo(f"{key}: {len(one.readings)} looks, {_stop(one.stopped)}; rollout: {_stop(one.rollout)}")
        n_stopped = sum(one.stopped is not None for one in found.values())
        typer.echo(f"series      {len(found)}, {n_stopped} stopped; each is tested at alpha {alpha:g} by itself")
    for bad in looks.bad[:SHOWN_BAD_ROWS]:
        typer.echo(f"left out    line {bad.line}: {bad.reason}")
    if len(looks.bad) > SHOWN_BAD_ROWS:
        typer.echo(f"left out    {len(looks.bad):,} rows in all")


def _tell(one: Replay, alpha: float) -> None:
    n = len(one.readings)
    step = max(1, math.ceil(n / SHOWN_LOOKS))
    stops = {stop.place - 1 for stop in (one.stopped, one.rollout) if stop}
    title = f"difference, {1 - alpha:.0%} any-time"
    typer.echo(f"{'look':>12} {'users':>12}  {title:32} {'ln E':>8} {'ln E split':>10}")
    for place in sorted({*range(0, n, step), n - 1, *stops}):
        r = one.readings[place]
        low, high = r.difference
        between = f"{low:+.6g} … {high:+.6g}" if math.isfinite(low) else "unknown yet"
        typer.echo(f"{r.look.name[:12]:>12} {sum(r.look.n):12,.0f}  {between:32} {r.log_e:8.3f} {r.srm_log_e:10.3f}")
    typer.echo(f"equality    {_stop(one.stopped)}")
    typer.echo(f"rollout     {_stop(one.rollout)}")
    if one.stopped and one.stopped.what == "invalid":
        typer.echo("note        users are not split as planned; was another share planned? Say it with --share")


def _stop(stop: Stop | None) -> str:
    return f"stopped at look {stop.look} after {stop.users:,.0f} users: {stop.what}" if stop else "never stopped"


def _facts(one: Replay) -> dict[str, Any]:
    return {"stopped": _stop_facts(one.stopped), "rollout": _stop_facts(one.rollout),
            "looks": [_reading(reading) for reading in one.readings]}  # fmt: skip


def _stop_facts(stop: Stop | None) -> dict[str, Any] | None:
    return {"place": stop.place, "look": stop.look, "users": stop.users, "what": stop.what} if stop else None


def _reading(r: Reading) -> dict[str, Any]:
    from training.sequential import finite

    return {
        "look": r.look.name, "n": r.look.n, "mean": r.look.mean, "events": r.look.events,
        "difference": r.look.mean[1] - r.look.mean[0], "difference_interval": [finite(v) for v in r.difference],
        "ratio_interval": None if r.ratio is None else [finite(v) for v in r.ratio],
        "log_e": r.log_e, "e": math.exp(min(r.log_e, 700.0)),
        "rollback_log_e": r.rollback_log_e, "promote_log_e": r.promote_log_e, "srm_log_e": r.srm_log_e,
    }  # fmt: skip
