"""A decision's record told in lines of plain text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

Json = dict[str, Any]
PARTS: Final = ("recency", "depth", "conversion")


def told(record: Json) -> Iterator[str]:
    """What was shown, the score, the segments, the offers, the draws, and how a replay went."""
    yield from _head(record)
    explained: Json = record.get("explain") or {}
    if text := explained.get("text"):
        yield f"because     {text}"
    elif not explained:
        yield "because     not known: a version that it names is no longer kept"
    yield from _score(record.get("score") or {})
    yield from _segments(explained.get("segments") or [])
    yield from _offers(explained.get("offers") or [])
    yield from _draws(explained.get("draws") or [])
    if rewards := record.get("rewards"):
        yield "outcomes    " + ", ".join(f"{kind} {_number(value)}" for kind, value in rewards.items())
    yield from _replayed(record)


def _head(record: Json) -> Iterator[str]:
    at_ms = record.get("at_ms", record.get("atMs"))
    when = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds") if at_ms is not None else ""
    yield f"decision    {record.get('decisionId')}  {when}".rstrip()
    yield f"for         {record.get('profileId')} on {record.get('placement')}, campaign {record.get('campaign')}"
    items = [f"{i['id']} ({i['kind']}, {i['reason']}, p {_number(i['propensity'])})" for i in record.get("items", [])]
    yield "shown       " + (", ".join(items) or "nothing")
    model, versions = record.get("model") or {}, record.get("versions") or {}
    yield f"with        model {model.get('version')} ({model.get('arm')}), book {versions.get('book', 'unknown')}"
    if degraded := record.get("degraded"):
        yield f"degraded    {degraded['rung']}: {degraded['reason']}"
    if record.get("holdout"):
        yield "holdout     yes: never shown offers"
    for name, variant in (record.get("variants") or {}).items():
        yield f"experiment  {name}: {variant}"


def _score(score: Json) -> Iterator[str]:
    if score.get("value") is None:
        return
    weights: Json = score.get("weights") or {}
    terms = " + ".join(f"{_number(weights.get(p))} × {p} {_number(score.get(p))}" for p in PARTS)
    yield f"score       {_number(score['value'])} = {terms}  (stage {score.get('stage')})"


def _segments(segments: list[Json]) -> Iterator[str]:
    for segment in segments:
        yield f"segment     {'in ' if segment['member'] else 'not in '}{segment['name']}"
        for clause in segment.get("clauses", []):
            yield f"              {clause['text']}"


def _offers(offers: list[Json]) -> Iterator[str]:
    for offer in offers:
        figures = [f"{name} {_number(offer[name])}" for name in ("p", "uplift", "worth") if offer.get(name) is not None]
        tail = f"  ({', '.join(figures)})" if figures else ""
        yield f"offer       {offer['offer']}: {offer['text']}{tail}"


def _draws(draws: list[Json]) -> Iterator[str]:
    for number, draw in enumerate(draws, 1):
        chances = ", ".join(f"{name or 'none'} {_number(p)}" for name, p in draw["propensities"].items())
        yield f"draw {number}      {draw['drawn'] or 'none'}, of {chances}"


def _replayed(record: Json) -> Iterator[str]:
    if "identical" not in record:
        return
    replay: Json = record.get("replay") or {}
    if record["identical"]:
        yield "replay      identical"
        return
    parts = [", ".join(replay.get("differs", [])), replay.get("reason", "")]
    yield "replay      differs: " + "; ".join(part for part in parts if part)


def _number(value: Any) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, int | float) else "unknown"
