"""What attribution may let go of: whatever can bear on nothing that is still to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.attribution import Attribution


def tidy(of: Attribution, now_ms: int) -> None:
    """Let go of events, orders, links and loose facts; `now_ms` is the watermark, before which everything was read."""
    span_ms = of.due.longest_ms() + of.grace_ms
    of.joining.tidy(now_ms - span_ms)
    of.loose = {key: facts for key, facts in of.loose.items() if any(ms >= now_ms for ms, _ in facts)}
    of.forgotten = {mark: ms for mark, ms in of.forgotten.items() if ms >= now_ms}
    of.orders = {name: order for name, order in of.orders.items() if order.may_matter(now_ms, span_ms)}
