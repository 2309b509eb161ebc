"""`kairos explain`: why a decision came out as it did, in plain words."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from engine.errors import InvalidInput, KairosError, NotFound, Unavailable
from serving.told import told

TIMEOUT_S = 10.0


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
    record = fetch(url, decision_id, key, replay)
    if as_json:
        typer.echo(json.dumps(record, ensure_ascii=False))
    else:
        for line in told(record):
            typer.echo(line)
    if replay and record.get("identical") is not True:
        raise typer.Exit(1)


def fetch(url: str, decision_id: str, key: str | None, replay: bool) -> dict[str, Any]:
    """The record over HTTP; raises `NotFound`, `InvalidInput`, or `Unavailable` where nobody answers."""
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    path = f"{url.rstrip('/')}/v1/decisions/{quote(decision_id, safe='')}"
    try:
        response = httpx.get(path, params={"replay": "true"} if replay else {}, headers=headers, timeout=TIMEOUT_S)
    except httpx.TransportError as error:
        raise Unavailable("no_answer", f"{url}: nobody answers: {error}") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise InvalidInput("bad_url", f"{url}: {error}") from None
    try:
        body = response.json()
    except ValueError:
        raise Unavailable("not_kairos", f"{url}: status {response.status_code}, and it is not Kairos") from None
    if response.is_success:
        return dict(body)
    code, message = body.get("code", f"status_{response.status_code}"), body.get("message", response.reason_phrase)
    kind: type[KairosError] = NotFound if response.status_code in (404, 410) else KairosError
    raise kind(str(code), str(message))
