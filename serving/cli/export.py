"""`kairos export`: decisions and signals as Parquet, from the archive and the store."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from engine.errors import InvalidInput
from serving.running import store_address

FOREVER_MS: Final = 1 << 52


def export(
    *,
    out: Annotated[Path, typer.Option(help="A folder for decisions.parquet, rewards.parquet, signals.parquet.")],
    decisions: Annotated[bool, typer.Option("--decisions", help="Decisions and what became of them.")] = False,
    signals: Annotated[bool, typer.Option("--signals", help="Signals.")] = False,
    since: Annotated[str | None, typer.Option("--from", help="Received from then on: ISO 8601, UTC if bare.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Received before then.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What was written as JSON.")] = False,
    archive: Annotated[
        str | None, typer.Option(envvar="KAIROS_ARCHIVE__PLACE", help="The archive, if not in the data directory.")
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="The data directory of the running Kairos.")] = Path(".kairos"),
    redis_url: Annotated[str | None, typer.Option(envvar="REDIS_URL", help="The store, if not embedded.")] = None,
) -> None:
    """Hand out what Kairos has recorded, one Parquet file a kind. Without --decisions or --signals: both.

    Records are handed out in the order in which each partition received them; what is beyond retention is gone.
    """
    from serving.exporting import parquet

    parquet()
    both = decisions == signals
    kinds = (("decisions", "rewards") if decisions or both else ()) + (("signals",) if signals or both else ())
    span = moment(since, "--from", 0), moment(until, "--to", FOREVER_MS)
    if span[0] >= span[1]:
        raise InvalidInput("bad_time", "--from is not before --to")
    address = store_address(redis_url or None, data_dir)
    counts = asyncio.run(write(address, archive or str(data_dir.absolute() / "archive"), out, kinds, span))
    if as_json:
        typer.echo(json.dumps({"out": str(out), "rows": counts}))
        return
    for kind, n in counts.items():
        typer.echo(f"{kind:<11} {n:,} rows  {out / kind}.parquet")


async def write(address: str, place: str, out: Path, kinds: tuple[str, ...], span: tuple[int, int]) -> dict[str, int]:
    """Write the files; returns how many rows each has.

    Raises:
        InvalidInput: `bad_out`, `bad_archive`, `no_extra`.
        engine.errors.Unavailable: store or archive do not answer.
    """
    from actors.archive import open_archive
    from actors.history import History
    from actors.segments import Segments
    from actors.valkey import valkey_stores
    from serving.exporting import Tables, records, rows_of

    segments = Segments(open_archive(place))
    stores = valkey_stores(address)
    tables = Tables(out, kinds)
    try:
        n_partitions = (await stores.table.read()).n_partitions
        tables.open()
        history = History(stores.journal, segments, foreign=True)
        for partition in range(n_partitions):
            async for decision_id, record in records(history, segments, partition, *span):
                for kind, row in rows_of(decision_id, record):
                    tables.add(kind, row)
        tables.finish()
    except OSError as error:
        tables.abandon()
        raise InvalidInput("bad_out", f"{out}: {error.strerror or error}") from None
    except BaseException:
        tables.abandon()
        raise
    finally:
        await stores.close()
    return tables.counts


def moment(text: str | None, option: str, otherwise: int) -> int:
    """Epoch ms of an ISO 8601 date or time, UTC where it names no zone; or of epoch ms as they are.

    >>> moment("1970-01-02", "--from", 0)
    86400000
    """
    if text is None:
        return otherwise
    if text.isascii() and text.isdigit() and len(text) > 8:
        return int(text)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            "bad_time", f"{option}: found {text!r}, expected ISO 8601, as in 2026-11-24T08:00Z"
        ) from None
    return round((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp() * 1000)
