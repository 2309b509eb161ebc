"""Which visits no person makes: too many pages too fast, or pages and pages without a scroll or a pointer.

A verdict on one session, from sums that merge in any order, so that it is the same for any order of arrival. Only
times by the senders' clocks count: events without a `timestamp` all carry that of their receipt, and say nothing of
speed when they come in one request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.session import Session

RACING_PAGES: Final = 60
RACING_GAP_MS: Final = 1_000
"""So many pages, on average closer together than this: whatever else happens on them."""
BLIND_PAGES: Final = 20
BLIND_GAP_MS: Final = 3_000
"""So many pages, on average closer together than this, and no scroll, pointer or order."""
PATIENT_PAGES: Final = 200
"""So many pages without a scroll, a pointer or an order, however slowly."""


def is_robotic(session: Session) -> bool:
    """Whether this visit is a robot's, as far as can be told by now."""
    n = session.n_pages
    if n < BLIND_PAGES:
        return False
    span_ms = session.end_ms - session.start_ms
    if n >= RACING_PAGES and 0 < span_ms < (n - 1) * RACING_GAP_MS:
        return True
    if session.scroll_px or session.scroll_share or session.n_clicks or session.n_hovers or session.n_orders:
        return False
    return n >= PATIENT_PAGES or 0 < span_ms < (n - 1) * BLIND_GAP_MS
