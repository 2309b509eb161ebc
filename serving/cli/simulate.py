"""`kairos simulate`: one persona step by step, or weeks of a simulated shop; both without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.decision import Decision
from engine.durations import duration_text
from engine.errors import InvalidInput
from engine.walk import Moment
from serving.books import SAMPLES, load_book_file
from serving.personas import Persona, Step, persona_names, read_persona, walk
from serving.recovery import tell_weeks


def simulate(
    *,
    persona: Annotated[
        str | None, typer.Option(help=f"A persona's file, or one of: {', '.join(persona_names())}.")
    ] = None,
    weeks: Annotated[int | None, typer.Option(min=1, max=52, help="Simulated weeks of cart recovery.")] = None,
    visitors: Annotated[int, typer.Option(min=100, help="New shoppers over those weeks.")] = 40_000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that live the weeks side by side.")] = 2,
    book: Annotated[Path, typer.Option(help="The campaign book.")] = SAMPLES / "cart_recovery.yaml",
    seed: Annotated[int, typer.Option(min=0, help="Of all dice: the policy's, and the shoppers of --weeks.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a step.")] = False,
) -> None:
    """Walk one persona through a book: what each step does to score, segments and offers.

    With --weeks: a shop of simulated shoppers instead, whose hidden truth is known. The engine, which learns as it
    goes, beside no offers, fixed rules, and an oracle that knows the truth. The prior answers a persona.
    """
    if (persona is None) == (weeks is None):
        raise InvalidInput("no_simulation", "say what to simulate: either --persona NAME, or --weeks N")
    if weeks is not None:
        tell_weeks(weeks, visitors, book, seed, workers, as_json=as_json)
        return
    assert persona is not None
    who, pages = read_persona(persona), load_book_file(book)
    if not as_json:
        typer.echo(f"{who.name}: {who.about}" if who.about else who.name)
    last: Moment | None = None
    for step, moment in walk(who, pages, seed=seed):
        if as_json:
            typer.echo(json.dumps(row(who, step, moment), ensure_ascii=False))
        else:
            for line in told(step, moment, last):
                typer.echo(line)
        last = moment


def row(who: Persona, step: Step, moment: Moment) -> dict[str, Any]:
    """A step as JSON; a decision's answer in the form of `/v1/decide`, with its explanation."""
    decision = moment.decision
    answer = decision.response(f"anon:{who.name}", step.request.placement if step.request else "", None)
    shown: dict[str, Any] = {
        "atMs": step.at_ms, "step": step.verb, "value": step.value, "score": answer["score"], "risk": answer["risk"],
        "segments": moment.segments, "entered": moment.entered, "left": moment.left,
    }  # fmt: skip
    if step.request is not None:
        shown["decision"] = {**answer, "explain": moment.explained}
    return shown


def told(step: Step, moment: Moment, last: Moment | None) -> Iterator[str]:
    """A step in lines of plain text."""
    what = f"{step.verb} {_short(step.value)}".rstrip()
    yield f"{duration_text(step.at_ms):>8}  {what:44.44}  {_figures(moment.decision, last)}".rstrip()
    for names, word in ((moment.entered, "enters"), (moment.left, "leaves")):
        if names:
            yield f"{'':10}{word} {', '.join(names)}"
    if step.request is None:
        return
    decision = moment.decision
    items = ", ".join(f"{i.id} ({i.kind}, p {i.propensity:.3g})" for i in decision.items)
    yield f"{'':10}shown: {items or 'nothing'}; {decision.layout}, {decision.media}"
    if decision.plain is not None:
        yield f"{'':10}because {moment.explained['text']}"
    for name, variant in decision.variants.items():
        yield f"{'':10}experiment {name}: {variant}"
    for offer in moment.explained.get("offers", ()):
        worth = f", worth {offer['worth']:.3g}" if offer["worth"] is not None else ""
        yield f"{'':10}offer {offer['offer']}: {offer['text']}{worth}"
    for item in decision.items:
        if item.kind == "offer":
            yield f"{'':10}says {json.dumps(item.content, ensure_ascii=False)}"


def _figures(decision: Decision, last: Moment | None) -> str:
    score = decision.score
    if score is None:
        return ""
    before = last.decision.score if last is not None else None
    moved = f" ({score.value - before.value:+.3f})" if before is not None else ""
    conversion = f", conversion {decision.conversion:.3f}" if decision.conversion is not None else ""
    return f"score {score.value:.3f}{moved}  {score.stage}{conversion}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(_short(one) for one in value.values())
    if isinstance(value, list):
        return ", ".join(_short(one) for one in value)
    return "" if value is None else str(value)
