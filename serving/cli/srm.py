"""`kairos srm`: are users split between the arms as planned?"""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer

from engine.errors import InvalidInput


def srm(
    counts: Annotated[str, typer.Option(help="Users of each arm so far: 5021,4987.")],
    *,
    shares: Annotated[str, typer.Option(help="Planned shares, as 0.9,0.1 or 9,1; equal if left out.")] = "",
    alpha: Annotated[float, typer.Option(help="The chance of a false alarm, over all looks together.")] = 0.001,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Test the split of users against the plan; valid however often it is asked."""
    from training.evidence import srm_log_e, threshold

    users = _numbers(counts, "--counts", "bad_counts")
    plan = _numbers(shares, "--shares", "bad_shares") if shares else [1.0] * len(users)
    if len(plan) != len(users) or sum(plan) <= 0:
        raise InvalidInput("bad_shares", f"--shares: {len(plan)} shares for {len(users)} counts, or none above 0")
    if any(n != int(n) for n in users):
        raise InvalidInput("bad_counts", f"--counts: users are whole numbers; found {counts}")
    planned = [share / sum(plan) for share in plan]
    log_e, needed = float(srm_log_e(users, planned)), threshold(alpha)
    mismatch = log_e >= needed
    total = sum(users)
    observed = [n / total if total else None for n in users]
    if as_json:
        typer.echo(json.dumps({
            "counts": users, "planned": planned, "observed": observed, "log_e": log_e, "threshold": needed,
            "p_anytime": min(1.0, math.exp(-max(log_e, -1.0))), "alpha": alpha, "mismatch": mismatch,
            "verdict": "mismatch" if mismatch else "ok",
        }))  # fmt: skip
        return
    for n, share, seen in zip(users, planned, observed, strict=True):
        typer.echo(f"{n:12,.0f} users   planned {share:.2%}   found {'–' if seen is None else f'{seen:.2%}'}")
    typer.echo(f"ln E        {log_e:.3f}, mismatch from {needed:.3f} on (alpha {alpha:g}, any number of looks)")
    typer.echo("verdict     " + ("mismatch: do not read this test's results" if mismatch else "ok"))


def _numbers(text: str, option: str, code: str) -> list[float]:
    from training.cells import number

    values = [number(part.strip()) for part in text.split(",")]
    found = [value for value in values if value is not None and value >= 0]
    if len(found) < len(values):
        raise InvalidInput(code, f"{option}: expected numbers of at least 0 with commas between; found {text!r}")
    return found
