"""`kairos explain`: why a decision came out as it did, in plain words."""

from __future__ import annotations

import json
from typing import Annotated
from urllib.parse import quote

import typer

from serving.remote import remote
from serving.told import told


def explain(
    decision_id: Annotated[str, typer.Argument(help="The decisionId of the answer, as in d_3_1_17_0.")],
    *,
    url: Annotated[str, typer.Option(envvar="KAIROS_URL", help="Where Kairos is.")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(envvar="KAIROS_KEY", help="A key with the admin scope.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Decide again from the record, and compare.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The record as JSON.")] = False,
) -> None:
    """Tell why: the score, the segments clause by clause, the verdict on every offer, the draw.

    Exit code 1: there is no such decision, or its replay is not identical.
    """
    path = f"/v1/decisions/{quote(decision_id, safe='')}{'?replay=true' if replay else ''}"
    record = remote("GET", url, path, key)
    if as_json:
        typer.echo(json.dumps(record, ensure_ascii=False))
    else:
        for line in told(record):
            typer.echo(line)
    if replay and record.get("identical") is not True:
        raise typer.Exit(1)
