"""`kairos plan`: what a shop's traffic needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def plan(
    *,
    visitors_per_month: Annotated[float, typer.Option(min=1, help="Different visitors in a month.")],
    visits_per_visitor: Annotated[float, typer.Option(min=0.1, help="Visits of one visitor in a month.")] = 1.6,
    signals_per_visit: Annotated[float, typer.Option(min=0, help="Pages, scrolls, clicks, … of one visit.")] = 25.0,
    decisions_per_visit: Annotated[float, typer.Option(min=0, help="Placements decided in one visit.")] = 4.0,
    peak: Annotated[float, typer.Option(min=1, help="The busiest hour against the average one.")] = 4.0,
    profiles_days: Annotated[float, typer.Option(min=1, help="How long profiles are kept.")] = 90.0,
    decisions_days: Annotated[float, typer.Option(min=1, help="How long decisions are kept.")] = 30.0,
    cores_per_node: Annotated[int, typer.Option(min=1, help="Cores of one machine.")] = 4,
    costs: Annotated[Path | None, typer.Option(help="A bench.json of your own machine, for its unit costs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print nodes, store memory, archive growth and what a million decisions cost, from measured unit costs."""
    from serving.plan import MIB, Traffic, plan
    from serving.unit_costs import read_costs

    traffic = Traffic(
        visitors_per_month, visits_per_visitor, signals_per_visit, decisions_per_visit, peak,
        profiles_days, decisions_days, cores_per_node,
    )  # fmt: skip
    found = plan(traffic, read_costs(costs))
    if as_json:
        print(json.dumps(found.to_dict()))
        return
    rows = [
        ("signals", f"{found.signals_per_s:,.1f}/s on average, {found.peak_signals_per_s:,.0f}/s at peak"),
        ("decisions", f"{found.decisions_per_s:,.1f}/s on average, {found.peak_decisions_per_s:,.0f}/s at peak"),
        ("cores", f"{found.cores:.1f} at peak, {traffic.utilisation:.0%} busy"),
        ("nodes", f"{found.nodes} of {cores_per_node} cores" + (", one of which may fail" if found.nodes > 1 else "")),
        ("store memory", f"{found.store_bytes / MIB:,.0f} MiB"),
        ("memory of live profiles", f"{found.live_bytes / MIB:,.0f} MiB in the shards"),
        ("archive", f"{found.archive_bytes_a_month / MIB / 1024:,.2f} GiB a month"),
        ("a million decisions", f"{found.core_s_per_million_decisions:,.0f} core-seconds, "
         f"{found.store_bytes_per_million_decisions / MIB:,.0f} MiB of journal, "
         f"{found.archive_bytes_per_million_decisions / MIB:,.0f} MiB of archive"),
    ]  # fmt: skip
    for name, value in rows:
        print(f"{name:24} {value}")
