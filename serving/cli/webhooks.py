"""`kairos webhooks`: how each destination stands, its dead letters, and sending them anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from engine.errors import NotFound
from engine.simulation.steps import iso
from serving.running import store_address

T = TypeVar("T")
app = typer.Typer(add_completion=False, no_args_is_help=True, help="Webhooks: destinations and dead letters.")

DataDir = Annotated[Path, typer.Option(help="The data directory of the running Kairos.")]
RedisUrl = Annotated[str | None, typer.Option(envvar="REDIS_URL", help="The store, if not embedded.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HERE: Final = Path(".kairos")


@app.command("list")
def list_letters(*, data_dir: DataDir = HERE, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Each destination with what was delivered, and every dead letter with its reason."""
    found = asyncio.run(_with(store_address(redis_url or None, data_dir), _read))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for one in found["destinations"]:
        typer.echo(f"{one['name']}: delivered {one['delivered']:,}, tries in vain {one['failedTries']:,}, "
                   f"dead letters {one['deadLetters']:,}")  # fmt: skip
    for letter in found["deadLetters"]:
        why = letter["error"] or f"HTTP {letter['status']}"
        waits = ", to be sent anew" if letter["redrive"] else ""
        typer.echo(f"{letter['key']}  {letter['destination']}  {iso(letter['at_ms'])}  {letter['kind']} "
                   f"{letter['campaign']}.{letter['segment']}  {letter['tries']} tries, {why}{waits}")  # fmt: skip
    if not found["destinations"]:
        typer.echo("no destination has been served yet: name one under `webhooks` in the settings and in the book")


@app.command()
def redrive(
    destination: Annotated[str, typer.Argument(help="The destination's name.")],
    key: Annotated[str | None, typer.Option(help="One letter; without it all of the destination.")] = None,
    *,
    data_dir: DataDir = HERE,
    redis_url: RedisUrl = None,
) -> None:
    """Send dead letters anew, with the idempotency keys they had."""

    async def mark(stores: Any) -> int:
        from actors.messenger import DEAD

        n = 0
        for name, rev, letter in await stores.documents.list(f"{DEAD}{destination}/"):
            if key is None or letter["key"] == key:
                n += await stores.documents.compare_and_set(name, rev, {**letter, "redrive": True})
        return n

    n = asyncio.run(_with(store_address(redis_url or None, data_dir), mark))
    if not n:
        raise NotFound("no_dead_letters", f"{destination} has no dead letter" + (f" {key}" if key else ""))
    typer.echo(f"{n:,} to be sent anew")


async def _read(stores: Any) -> dict[str, Any]:
    from actors.messenger import DEAD, OFFSETS

    letters = [
        {"destination": name.removeprefix(DEAD).rpartition("/")[0], **letter}
        for name, _, letter in await stores.documents.list(DEAD)
    ]
    destinations = [
        {"name": name.removeprefix(OFFSETS), "delivered": told["delivered"], "failedTries": told["failed_tries"],
         "deadLetters": sum(one["destination"] == name.removeprefix(OFFSETS) for one in letters)}
        for name, _, told in await stores.documents.list(OFFSETS)
    ]  # fmt: skip
    return {"destinations": destinations, "deadLetters": letters}


async def _with(address: str, work: Callable[[Any], Awaitable[T]]) -> T:
    from actors.valkey import valkey_stores

    stores = valkey_stores(address)
    try:
        return await work(stores)
    finally:
        await stores.close()
