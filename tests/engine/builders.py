"""Deterministic builders for signals and journals, shared by the tests of the engine and of the shard."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from engine.signals import Signal

T0 = 1_790_000_000_000
MINUTE, HOUR = 60_000, 3_600_000


def signal(kind: str, t_ms: int = T0, message: int | None = None, **fields: Any) -> Signal:
    """A signal whose message follows from its content unless it is given."""
    if message is None:
        message = abs(hash((kind, t_ms, repr(sorted(fields.items()))))) % 2**64
    return Signal(kind, t_ms, message, fields)


_SHAPES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "page": st.fixed_dictionaries({"url": st.sampled_from(["/a", "/b", "/c"]), "height_px": st.just(2000.0)}),
    "scroll": st.fixed_dictionaries({"px": st.floats(0, 3000), "share": st.floats(0, 1)}),
    "heartbeat": st.fixed_dictionaries({"time_s": st.floats(0, 100)}) | st.just({"increment_s": 5.0}),
    "hover": st.fixed_dictionaries({"ms": st.floats(0, 5000)}),
    "click": st.just({}),
    "product_viewed": st.fixed_dictionaries({"items": st.just([{"id": "p1"}]) | st.just([{"id": "p2"}])}),
    "product_added": st.fixed_dictionaries({"items": st.just([{"id": "p1", "price": 10.0, "quantity": 2}])}),
    "product_removed": st.just({"items": [{"id": "p1", "quantity": 1}]}),
    "checkout_started": st.just({"step": 2}),
    "order_completed": st.fixed_dictionaries({"order_id": st.sampled_from(["o1", "o2"]), "value": st.just(20.0)}),
    "order_refunded": st.just({"order_id": "o1", "value": 5.0}),
    "order_cancelled": st.just({"order_id": "o2"}),
    "identify": st.fixed_dictionaries({"traits": st.fixed_dictionaries({"tier": st.sampled_from(["a", "b"])})}),
    "group": st.just({"group_id": "g1"}),
    "offer_viewed": st.just({"offer_id": "free"}),
    "offer_clicked": st.just({"offer_id": "free"}),
}


@st.composite
def histories(draw: st.DrawFn, hours: int = 20, max_size: int = 40) -> list[Signal]:
    """Signals within some hours, each with its own message."""
    n = draw(st.integers(1, max_size))
    found = []
    for message in range(n):
        kind = draw(st.sampled_from(sorted(_SHAPES)))
        t_ms = T0 + draw(st.integers(0, hours * 60)) * MINUTE
        found.append(Signal(kind, t_ms, message + 1, draw(_SHAPES[kind])))
    return found
