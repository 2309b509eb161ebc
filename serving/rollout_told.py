"""Rollouts in lines of plain text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def overview(status: Json, lines: int = 10) -> Iterator[str]:
    """What is under way, what waits, what ended, and the newest lines of the audit log."""
    running, waiting = status["running"], status["waiting"]
    yield from evidence(running) if running else ["running     nothing"]
    if waiting:
        yield f"waiting     {waiting['id']} {waiting['kind']} {waiting['candidate']}"
    traffic, expects = status["traffic"], status["expected"]
    yield f"traffic     {traffic['usersPerDay']:,.0f} users a day, {traffic['conversion']:.2%} convert"
    yield f"expected    {expectation(expects)}"
    for line in status["audit"][:lines]:
        yield f"{_when(line['at_ms'])}  {line['rollout']} {line['what']} by {line['by']}: {line['why']}"


def expectation(expects: Json) -> str:
    """How long an equal candidate takes."""
    days = expects["days"]
    if days is None:
        return "not known: too few visitors have come by, or none converts"
    horizon = "" if expects["withinHorizon"] else "; beyond the horizon, where the champion stays"
    return f"{days:.3g} days until an equal candidate is promoted (half need longer){horizon}"


def evidence(one: Json) -> Iterator[str]:
    """One rollout with its evidence, as far as there is any."""
    yield f"{one['phase']:<11} {one['id']} {one['kind']} {one['candidate']} against {one['champion'] or 'nobody yet'}"
    if one["stageSeconds"] is not None:
        yield f"stage       {one['stage']} for {one['stageSeconds']:,.0f} s; ramp {' → '.join(one['stages'])}"
    if one["reason"]:
        yield f"reason      {one['reason']}"
    found = one.get("evidence")
    if not found:
        return
    yield f"users       {found['users']:,} observed, {found['exposed']:,} exposed, {found['crossedOver']} crossed over"
    guards = ", ".join(f"{name} {_number(value)}" for name, value in found["guards"].items())
    yield f"guards      ln E: {guards}"
    yield f"            sample ratio {_number(found['sampleRatio'])}, not worse {_number(found['notWorse'])}"
    if loss := found.get("logLoss"):
        upper = "unknown" if loss["upper"] is None else f"{loss['upper']:+.5f}"
        yield (f"log-loss    challenger − champion {loss['difference']:+.5f}, at most {upper}, "
               f"allowed {loss['allowed']:+.5f} ({loss['pairs']:,} pairs)")  # fmt: skip
    for stage in found["stages"]:
        if isinstance(stage["users"], list):
            users, converted = stage["users"], stage["conversions"]
            low, high = (_number(bound) for bound in stage["conversionRatio"])
            yield (f"            {stage['stage']}: users {users[0]:,} / {users[1]:,}, "
                   f"conversions {converted[0]:,} / {converted[1]:,}, ratio {low} – {high}")  # fmt: skip


def _number(value: float | None) -> str:
    return "∞" if value is None else f"{value:.2f}"


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
