"""What attribution holds, as bytes beside the window's: one blob, so that what was read and what is kept agree."""

from __future__ import annotations

import zlib
from typing import Any, Final

import orjson

from engine.compiled import Value
from engine.errors import InvalidInput
from training.as_served import Goal
from training.attribution import Attribution
from training.joining import Joining
from training.outcomes import Case, Event, Order
from training.window import Window

FORMAT: Final = 1
MATURED: Final = "m"
"""Stands among the facts of a case whose time is over."""


def to_bytes(attribution: Attribution, window: Window, extra: dict[str, Any]) -> bytes:
    """Attribution, window and what else is of the same moment (offsets, what subscribers hold), with a checksum."""
    state = {
        "format": FORMAT,
        "watermarks": attribution.watermarks,
        "cases": _columns(list(attribution.cases.values())),
        "orders": {name: order.to_list() for name, order in attribution.orders.items()},
        "joining": attribution.joining.to_list(),
        "loose": [[key, [[ms, _to_list(fact)] for ms, fact in facts]] for key, facts in attribution.loose.items()],
        "share": attribution.share,
        "pace": attribution.pace,
        "forgotten": list(attribution.forgotten.items()),
        "counts": attribution.counts,
        "extra": extra,
    }
    head = zlib.compress(orjson.dumps(state), 1)
    body = len(head).to_bytes(8, "big") + head + window.to_bytes()
    return zlib.crc32(body).to_bytes(4, "big") + body


def from_bytes(blob: bytes, attribution: Attribution, capacity: int) -> tuple[Window, dict[str, Any]] | None:
    """Fill a fresh attribution with what was saved, and give the window and the extra; None for another feature schema.

    Raises:
        engine.errors.InvalidInput: `broken_window`, the bytes are not as they were written.
    """
    body = blob[4:]
    if zlib.crc32(body).to_bytes(4, "big") != blob[:4]:
        raise InvalidInput("broken_window", "the saved window is not as it was written")
    end = 8 + int.from_bytes(body[:8], "big")
    state, window = orjson.loads(zlib.decompress(body[8:end])), Window.from_bytes(body[end:], capacity)
    if window is None or state["format"] != FORMAT or len(state["watermarks"]) != len(attribution.watermarks):
        return None
    attribution.watermarks = state["watermarks"]
    attribution.counts.update(state["counts"])
    attribution.orders = {name: Order.from_list(row) for name, row in state["orders"].items()}
    attribution.joining = Joining.from_list(state["joining"])
    attribution.loose = {key: [(ms, _from_list(fact)) for ms, fact in facts] for key, facts in state["loose"]}
    attribution.share, attribution.pace = state.get("share", 1.0), state.get("pace", 1.0)
    attribution.forgotten = dict(state["forgotten"])
    for case in _cases(state["cases"]):
        attribution.cases[case.key] = case
        attribution.joining.add_case(case)
        if not case.matured:
            attribution.due.add(case)
    return window, state["extra"]


def _columns(cases: list[Case]) -> dict[str, Any]:
    """Cases by column: of the many, most say no more than that they have matured."""
    goals: dict[Goal, int] = {}
    for case in cases:
        goals.setdefault(case.goal, len(goals))
    said = {i: case for i, case in enumerate(cases) if case.orders or case.facts}
    return {
        "key": [case.key for case in cases],
        "root": [case.root for case in cases],
        "t_ms": [case.t_ms for case in cases],
        "due_ms": [case.due_ms for case in cases],
        "offer": [case.offer for case in cases],
        "matured": [case.matured for case in cases],
        "cart": [case.cart for case in cases],
        "goal": [goals[case.goal] for case in cases],
        "goals": [[kind, within, [v.kind, v.fixed, v.share, v.basket], visit] for kind, within, v, visit in goals],
        "said": [
            [i, [*sorted(case.facts), *[MATURED] * case.matured], case.orders, case.worth, case.converted, case.engaged]
            for i, case in said.items()
        ],
    }


def _cases(held: dict[str, Any]) -> list[Case]:
    goals = [Goal(kind, within, Value(*value), visit) for kind, within, value, visit in held["goals"]]
    names = ("key", "root", "t_ms", "due_ms", "offer", "matured", "cart", "goal")
    found: list[Case] = []
    for key, root, t_ms, due_ms, offer, matured, cart, number in zip(*(held[name] for name in names), strict=True):
        found.append(Case(key, root, t_ms, due_ms, goals[number], cart, offer, matured=matured))
    for i, facts, orders, worth, converted, engaged in held["said"]:
        case = found[i]
        case.facts, case.orders = frozenset(facts) - {MATURED}, tuple(orders)
        case.worth, case.converted, case.engaged = worth, converted, engaged
    return found


def _to_list(fact: Any) -> Any:
    return {"event": fact.to_list()} if isinstance(fact, Event) else fact


def _from_list(fact: Any) -> Any:
    return Event(*fact["event"]) if isinstance(fact, dict) else fact
