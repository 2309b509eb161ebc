"""The demo's live summary: a table once a second on a terminal, plain lines every some seconds elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from serving.demo_tally import BUDGETS_MS, SIMULATED, Latency, Tally

LIVE_S = 1.0
PLAIN_S = 5.0
BETWEEN_S = 30.0
"""Where a story is told in the same lines, figures come seldom enough to follow it."""


async def show(tally: Tally, console: Console, footer: list[str], plain_s: float = PLAIN_S) -> None:
    """Show figures until cancelled."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                live.update(picture(tally, footer), refresh=True)
                await asyncio.sleep(LIVE_S)
    while True:
        await asyncio.sleep(plain_s)
        for line in plain(tally):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def figures(tally: Tally) -> Iterator[tuple[str, str]]:
    """Every figure with its name."""
    earlier = f"{tally.n_history:,} of earlier visits"
    yield "events", f"{tally.events.now():,.0f}/s, {tally.events.total:,} in all, {earlier}"
    yield "decisions", f"{tally.decisions.now():,.0f}/s, {tally.decisions.total:,} in all"
    yield "decide", _times(tally.decide)
    for name, budget_ms in BUDGETS_MS.items():
        seen = tally.signals[name]
        yield f"{name} signal", f"{_times(seen)}, budget {budget_ms:.0f} ms{_verdict(seen, budget_ms)}"
    shed = f", {tally.n_shed:,} turned away: too many" if tally.n_shed else ""
    yield "visitors", f"{tally.n_present:,} present{shed}"
    yield "segments", ", ".join(f"{name} {n}" for name, n in tally.segments()) or "nobody is in one now"
    yield "offers shown", ", ".join(f"{name} {n}" for name, n in tally.offers.most_common()) or "none yet"
    yield "carts paid for", f"offers possible: {tally.treated.text}; holdout: {tally.held_out.text}"
    yield "", SIMULATED
    yield "model", tally.model
    if tally.degraded:
        yield "degraded", ", ".join(f"{reason} {n}" for reason, n in tally.degraded.most_common())
    if tally.errors:
        yield "errors", ", ".join(f"{kind} {n}" for kind, n in tally.errors.most_common(5))


def plain(tally: Tally) -> Iterator[str]:
    """The figures as lines for a log."""
    for name, value in figures(tally):
        yield f"{name:<20} {value}"
    yield ""


def picture(tally: Tally, footer: list[str]) -> Group:
    """The figures for a terminal."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in figures(tally):
        table.add_row(Text(name), Text(value, style=_style(name, value)))
    return Group(table, *(Text(line, style="dim") for line in footer))


def _style(name: str, value: str) -> str:
    if name in ("errors", "degraded") or "over budget" in value:
        return "red"
    return "yellow" if value == SIMULATED else ""


def _times(latency: Latency) -> str:
    p50, p99 = latency.at(0.5), latency.at(0.99)
    if p50 is None or p99 is None:
        return "not measured yet" + (f", {latency.n_missed} missed" if latency.n_missed else "")
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms" + (f", {latency.n_missed} missed" if latency.n_missed else "")


def _verdict(latency: Latency, budget_ms: float) -> str:
    p99 = latency.at(0.99)
    if p99 is None:
        return ""
    return ": within" if p99 <= budget_ms and not latency.n_missed else ": over budget"


def next_steps(url: str) -> list[str]:
    """What to try while it runs."""
    body = '{"anonymousId":"me","placement":"product_page","explain":true}'
    return [
        f"{url}   its calls: {url}/docs",
        f"ask for a decision: curl -s {url}/v1/decide --json '{body}'",
        "Ctrl-C ends it.",
    ]
