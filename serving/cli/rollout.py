"""`kairos rollout`: what is on its way to visitors, and steering it."""

from __future__ import annotations

import getpass
import json
from typing import Annotated, Any, Final

import typer

from engine.errors import InvalidInput, NotFound
from serving.remote import remote
from serving.rollout_told import evidence, expectation, overview

app: Final = typer.Typer(
    add_completion=False, invoke_without_command=True, help="What is on its way to visitors, and steering it."
)
LOCAL: Final = "http://127.0.0.1:8000"
Url = Annotated[str, typer.Option(envvar="KAIROS_URL", help="Where Kairos is.")]
Key = Annotated[str | None, typer.Option(envvar="KAIROS_KEY", help="A key with the admin scope.")]
AsJson = Annotated[bool, typer.Option("--json", help="The whole answer as JSON.")]
By = Annotated[str | None, typer.Option(help="Who does it, for the audit log; you, where absent.")]
Why = Annotated[str, typer.Option(help="Why, for the audit log.")]
Id = Annotated[str, typer.Argument(help="A rollout, as `kairos rollout` names it.")]


Lines = Annotated[int, typer.Option(min=0, help="Lines of the audit log.")]


@app.callback()
def rollout(
    ctx: typer.Context, *, url: Url = LOCAL, key: Key = None, as_json: AsJson = False, lines: Lines = 10
) -> None:
    """What is on its way to visitors, and steering it; alone it lists."""
    if ctx.invoked_subcommand is None:
        list_rollouts(url=url, key=key, as_json=as_json, lines=lines)
        return
    given = next((name for name in ctx.params if _is_said(ctx, name)), None)
    if given is not None:
        word = "json" if given == "as_json" else given
        raise typer.BadParameter(f"--{word} belongs behind {ctx.invoked_subcommand!r}", ctx=ctx)


def _is_said(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@app.command("list")
def list_rollouts(*, url: Url = LOCAL, key: Key = None, as_json: AsJson = False, lines: Lines = 10) -> None:
    """What is under way with its evidence, what waits, what happened."""
    status = remote("GET", url, "/v1/rollouts", key)
    if as_json:
        _say(status)
        return
    for line in overview(status, lines):
        typer.echo(line)


@app.command()
def show(rollout_id: Id, *, url: Url = LOCAL, key: Key = None, as_json: AsJson = False) -> None:
    """One rollout: where it stands, its evidence, and its lines of the audit log."""
    status = remote("GET", url, "/v1/rollouts", key)
    found = next((one for one in status["rollouts"] if one["id"] == rollout_id), None)
    if found is None:
        raise NotFound("unknown_rollout", f"there is no rollout {rollout_id}")
    running = status["running"]
    if running and running["id"] == rollout_id:
        found = running
    audit = [line for line in status["audit"] if line["rollout"] == rollout_id]
    if as_json:
        _say({**found, "audit": audit})
        return
    for line in evidence(found):
        typer.echo(line)
    for line in reversed(audit):
        typer.echo(f"audit       {line['what']} by {line['by']}: {line['why']}")


@app.command()
def start(
    version: Annotated[str, typer.Argument(help="A model or a book that is kept.")],
    *, kind: Annotated[str, typer.Option(help="model or book.")] = "model", by: By = None, why: Why = "",
    url: Url = LOCAL, key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Send a candidate on its way: at once, or when what is under way has ended."""
    if kind not in ("model", "book"):
        raise InvalidInput("bad_kind", f"--kind: found {kind}, expected model or book")
    expects = remote("GET", url, "/v1/rollouts", key)["expected"]
    typer.echo(f"expected    {expectation(expects)}", err=True)
    body = {"kind": kind, "version": version, "by": by or getpass.getuser(), "why": why}
    _tell(remote("POST", url, "/v1/rollouts", key, body), as_json)


@app.command()
def promote(
    rollout_id: Id, *, by: By = None, why: Why = "", url: Url = LOCAL, key: Key = None, as_json: AsJson = False
) -> None:
    """Put the candidate in force now."""
    _act("promote", rollout_id, by, why, url, key, as_json)


@app.command()
def rollback(
    rollout_id: Id, *, by: By = None, why: Why = "", url: Url = LOCAL, key: Key = None, as_json: AsJson = False
) -> None:
    """End it: every shard decides with the champion when this returns."""
    _act("rollback", rollout_id, by, why, url, key, as_json)


@app.command()
def pause(
    rollout_id: Id, *, by: By = None, why: Why = "", url: Url = LOCAL, key: Key = None, as_json: AsJson = False
) -> None:
    """Stop the ramp and its clock; users keep their arms and the guards stay awake."""
    _act("pause", rollout_id, by, why, url, key, as_json)


@app.command()
def resume(
    rollout_id: Id, *, by: By = None, why: Why = "", url: Url = LOCAL, key: Key = None, as_json: AsJson = False
) -> None:
    """Go on where it was paused."""
    _act("resume", rollout_id, by, why, url, key, as_json)


@app.command()
def simulate(
    *, n: Annotated[int, typer.Option(min=1, max=100_000, help="Rollouts of each candidate.")] = 20,
    users_per_day: Annotated[float, typer.Option(min=1)] = 20_000.0,
    conversion: Annotated[float, typer.Option(min=0.0001, max=0.9)] = 0.05,
    margin: Annotated[float, typer.Option(min=0.001, max=0.9, help="The loss of conversion that is tolerated.")] = 0.1,
    seed: int = 0, as_json: AsJson = False,
) -> None:  # fmt: skip
    """What the rule would make of good and bad candidates in a shop like this one; nothing is asked of any server."""
    from training.rollout_plan import Plan
    from training.rollout_simulation import BAD, EQUAL, Candidate, Shop
    from training.rollout_tables import summary

    shop, plan = Shop(users_per_day=users_per_day, conversion=conversion), Plan(margin=margin)
    candidates = (EQUAL, Candidate("better", noise=0.15, conversion=1.05), *BAD)
    rows = [summary(candidate, shop, plan, n, seed) for candidate in candidates]
    if as_json:
        _say(rows)
        return
    for row in rows:
        typer.echo(
            f"{row['candidate']:<22} promoted {row['promoted']:>4.0%}, rolled back {row['rolled_back']:>4.0%}, "
            f"kept {row['kept_champion']:>4.0%}; exposed {row['exposed']:>8,.0f} users, {row['days']:>5.1f} days, "
            f"ends in {row['where']}"
        )


def _act(verb: str, rollout_id: str, by: str | None, why: str, url: str, key: str | None, as_json: bool) -> None:
    body = {"by": by or getpass.getuser(), "why": why}
    _tell(remote("POST", url, f"/v1/rollouts/{rollout_id}/{verb}", key, body), as_json)


def _tell(one: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _say(one)
        return
    for line in evidence(one):
        typer.echo(line)


def _say(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
