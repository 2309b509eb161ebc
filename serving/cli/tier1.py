"""`kairos tier1`: whom an ingress asks for suggestions, how that goes, and how far the two tiers agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from serving.remote import remote


def tier1(
    *,
    url: Annotated[str, typer.Option(envvar="KAIROS_URL", help="Where Kairos is.")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(envvar="KAIROS_KEY", help="A key with the admin scope.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the sources with their breakers, and the agreement by campaign, since the ingress that answers started."""
    told = remote("GET", url, "/v1/tier1", key)
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    for line in lines(told):
        typer.echo(line)


def lines(told: dict[str, Any]) -> Iterator[str]:
    """What people read of it."""
    if not told["sources"] and not told["agreement"]:
        yield "nothing yet: no campaign names a tier1.url, and no request brought suggestions"
    for source in told["sources"]:
        mean = "" if source["mean_ms"] is None else f", {source['mean_ms']:.1f} ms on average"
        opened = f", opened {source['opened']} times" if source["opened"] else ""
        yield f"{source['source']}  {source['campaign']} on {', '.join(source['placements'])}"
        yield f"  breaker {source['breaker']}{opened}{mean}"
        yield "  " + (", ".join(f"{name} {n:,}" for name, n in source["results"].items()) or "not asked yet")
    for row in told["agreement"]:
        yield (
            f"{row['campaign']} ({row['mode']}): agreement {row['agreement']:.3f} over {row['decisions']:,} decisions, "
            f"{row['same']:.1%} in the same order, {row['fellBack']:.1%} fell back to Tier 1"
        )
