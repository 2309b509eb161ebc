"""What attribution holds, as bytes beside the window's: one blob, so that what was read and what is kept agree."""

from __future__ import annotations

import heapq
import zlib
from typing import Any, Final

import orjson

from engine.errors import InvalidInput
from training.as_served import goal_from_list, goal_to_list
from training.attribution import Attribution
from training.joining import Joining
from training.outcomes import Case, Event, Order
from training.window import Window

FORMAT: Final = 1


def to_bytes(attribution: Attribution, window: Window, extra: dict[str, Any]) -> bytes:
    """Attribution, window and what else is of the same moment (offsets, what subscribers hold), with a checksum."""
    state = {
        "format": FORMAT,
        "watermarks": attribution.watermarks,
        "cases": [[*case.to_list(), goal_to_list(case.goal)] for case in attribution.cases.values()],
        "orders": {name: order.to_list() for name, order in attribution.orders.items()},
        "joining": attribution.joining.to_list(),
        "loose": [[key, [[ms, _to_list(fact)] for ms, fact in facts]] for key, facts in attribution.loose.items()],
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
    attribution.forgotten = dict(state["forgotten"])
    for *row, goal in state["cases"]:
        case = Case.from_list(row, goal_from_list(goal))
        attribution.cases[case.key] = case
        attribution.joining.add_case(case)
        if not case.matured:
            heapq.heappush(attribution.due, (case.due_ms, case.key))
    return window, state["extra"]


def _to_list(fact: Any) -> Any:
    return {"event": fact.to_list()} if isinstance(fact, Event) else fact


def _from_list(fact: Any) -> Any:
    return Event(*fact["event"]) if isinstance(fact, dict) else fact
