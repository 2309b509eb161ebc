"""`kairos experiments`: what experiments show so far, read from the journal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from engine.durations import duration_text
from serving.running import store_address

SAY_EVERY_MS: Final = 2_000


def experiments(
    *,
    data_dir: Annotated[Path, typer.Option(help="The data directory of the running Kairos.")] = Path(".kairos"),
    redis_url: Annotated[str | None, typer.Option(envvar="REDIS_URL", help="The store, if not embedded.")] = None,
    archive: Annotated[str | None, typer.Option(envvar="KAIROS_ARCHIVE__PLACE", help="The archive's place.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Each variant against control: visitors exposed, conversion and value, intervals valid at every look.

    Exposed is who got, or would have got under another variant, a different answer. There is no p-value.
    """
    place = archive or str(data_dir.absolute() / "archive")
    found = asyncio.run(_read(store_address(redis_url or None, data_dir), place))
    if as_json:
        typer.echo(json.dumps({"experiments": found}, ensure_ascii=False, allow_nan=False))
        return
    for line in lines_of(found):
        typer.echo(line)


async def _read(address: str, place: str) -> list[dict[str, Any]]:
    from actors.archive import open_archive
    from actors.experiments import ExperimentReader
    from actors.history import History
    from actors.hosting import epoch_ms
    from actors.segments import Segments
    from actors.valkey import valkey_stores

    stores = valkey_stores(address)
    try:
        history = History(stores.journal, Segments(open_archive(place)), foreign=True)
        reader = ExperimentReader(stores, history, epoch_ms)
        await reader.advance(_say, SAY_EVERY_MS)
        return await reader.results()
    finally:
        await stores.close()


async def _say(share: float) -> None:
    typer.echo(f"reading the journal: {share:.0%}", err=True)


def lines_of(found: list[dict[str, Any]]) -> Iterator[str]:
    """The results for a person."""
    if not found:
        yield "the book in force has no experiment"
    for one in found:
        sound = "as planned" if one["sampleRatio"]["sound"] else "NOT as planned: no result can be believed"
        yield f"{one['experiment']}: {one['verdict']}"
        yield f"  split {sound}; {one['crossovers']:,} visitors saw several variants and are left out"
        known, exposed = (sum(v[n] for v in one["variants"]) for n in ("matured", "exposed"))
        after = duration_text(round(one["outcomesAfterS"]) * 1000)
        yield f"  the outcome is known of {known:,} of {exposed:,} exposed visitors, of each {after} after the decision"
        for variant in one["variants"]:
            yield (
                f"  {variant['variant']:16} assigned {variant['assigned']:,}, exposed {variant['exposed']:,}, "
                + (
                    f"conversion {_mean(variant['conversion'])}, value {_mean(variant['value'])}"
                    if variant["matured"]
                    else "no outcome known yet"
                )
            )
            apart = variant["conversion"].get("minusControl")
            if apart is not None and variant["matured"]:
                yield f"  {'':16} minus {one['control']}: {_mean(apart)}"


def _mean(told: Mapping[str, Any]) -> str:
    if told["lower"] is None:
        return f"{told['mean']:.4f} (too few, or too much alike, for an interval)"
    return f"{told['mean']:.4f} ({told['lower']:.4f} … {told['upper']:.4f})"
