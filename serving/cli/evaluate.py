"""`kairos evaluate`: what a policy would have earned, from the log of another one."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import InvalidInput

if TYPE_CHECKING:
    from training.logged import Learned, Log
    from training.off_policy import Valuation

SHOWN_BAD_ROWS, SHOWN_POLICIES = 5, 25


def evaluate(
    source: Annotated[
        Path, typer.Option("--log", help="One decision a row: CSV with a header, JSON lines or Parquet.")
    ],
    action: Annotated[str, typer.Option(help="The column of the action that was taken.")],
    reward: Annotated[str, typer.Option(help="The column of what it earned, a number.")],
    propensity: Annotated[str, typer.Option(help="How probable that action was: a column, or a number as 1/3.")],
    *,
    target_prob: Annotated[
        str | None, typer.Option(help="How probable it is under the new policy: a column, or a number.")
    ] = None,
    learn: Annotated[bool, typer.Option("--learn", help="Learn a policy, cross-fitted, and value that.")] = False,
    features: Annotated[str, typer.Option(help="Columns known before the action; with commas.")] = "",
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="The same seed and log give the same figures.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """IPS, SNIPS and doubly robust values with intervals, or a refusal with its reason."""
    from training import logged

    names = tuple(name.strip() for name in features.split(",") if name.strip())
    if learn == (target_prob is not None):
        raise InvalidInput("no_policy", "say which policy to value: either --target-prob, or --learn with --features")
    if learn and not names:
        raise InvalidInput("no_features", "--learn needs --features: the columns known before the action")
    log = logged.read_log(source, action, reward, propensity, names)
    if target_prob is None:
        found = logged.learn(log, seed, confidence)
        _say(_learned_facts(found) | _log_facts(log), _learned_lines(found, confidence), log, as_json)
        return
    valuation, model = logged.value_target(log, target_prob, seed, confidence)
    facts = {**_facts(valuation), "reward_model": model, **_log_facts(log)}
    _say(facts, [*_lines(valuation, confidence), f"reward model by {model}"], log, as_json)


def _say(facts: dict[str, Any], lines: list[str], log: Log, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, allow_nan=False))
        return
    for line in lines:
        typer.echo(line)
    for note in log.notes:
        typer.echo(f"note        {note}")
    for bad in log.bad[:SHOWN_BAD_ROWS]:
        typer.echo(f"left out    line {bad.line}: {bad.reason}")
    if len(log.bad) > SHOWN_BAD_ROWS:
        typer.echo(f"left out    {len(log.bad):,} rows in all")


def _lines(v: Valuation, confidence: float) -> list[str]:
    named = (("IPS", v.ips), ("SNIPS", v.snips), ("DR", v.dr), ("gain (DR)", v.gain))
    return [
        f"rows        {v.n:,}, the log earned {v.logged:.6g} a decision",
        f"mean weight {v.mean_weight:.4f} ± {v.mean_weight_error:.4f} (one standard error), "
        f"largest {v.largest_weight:.4g}",
        f"effective   {v.effective:,.1f} rows, needed {v.effective_needed:,.0f}",
        *(f"{name:11} {e.value:.6g}, {confidence:.0%} interval {e.lower:.6g} … {e.upper:.6g}" for name, e in named),
        f"verdict     {v.verdict}" + (": do not use these figures" if v.verdict != "ok" else ""),
        *(f"because     {reason}" for reason in v.why),
    ]


def _learned_lines(found: Learned, confidence: float) -> list[str]:
    width = max(len(one.name) for one in (found.learned, *found.constants)) + 2
    lines = [f"{'policy':{width}} {'DR':>10}  {f'{confidence:.0%} interval':25} {'IPS':>10} {'SNIPS':>10}  verdict"]
    for one in (found.learned, *found.constants[:SHOWN_POLICIES]):
        v = one.valuation
        between = f"{v.dr.lower:.6g} … {v.dr.upper:.6g}"
        lines.append(f"{one.name:{width}} {v.dr.value:10.6f}  {between:25} {v.ips.value:10.6f} "
                     f"{v.snips.value:10.6f}  {'; '.join((v.verdict, *v.why))}")  # fmt: skip
    lines.append("takes       " + ", ".join(f"{name} {share:.1%}" for name, share in found.learned.takes.items()))
    for c in found.comparisons[:SHOWN_POLICIES]:
        says = "beats" if c.beats else "is not shown to beat"
        lines.append(f"claim       learned {says} {c.against}: difference {c.difference.value:+.6f}, "
                     f"{c.difference.lower:+.6f} … {c.difference.upper:+.6f}")  # fmt: skip
    return lines


def _facts(v: Valuation) -> dict[str, Any]:
    return {key: _plain(part) for key, part in asdict(v).items()}


def _plain(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _plain(inner) for key, inner in part.items()}
    return None if isinstance(part, float) and not math.isfinite(part) else part


def _learned_facts(found: Learned) -> dict[str, Any]:
    policies = [
        {"name": one.name, "takes": one.takes, **_facts(one.valuation)} for one in (found.learned, *found.constants)
    ]
    return {"policies": policies, "comparisons": [_plain(asdict(c)) for c in found.comparisons],
            "verdict": found.learned.valuation.verdict, "why": list(found.learned.valuation.why)}  # fmt: skip


def _log_facts(log: Log) -> dict[str, Any]:
    return {"actions": list(log.actions), "notes": list(log.notes),
            "bad": [{"line": bad.line, "reason": bad.reason} for bad in log.bad]}  # fmt: skip
