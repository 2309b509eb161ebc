"""A profile: a set of tracks read as one visitor; tracks are never fused, so a merge can be undone."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from engine.offer_times import MAX_TIMES, counted_once
from engine.session import add_to_sessions
from engine.stubs import Stubs
from engine.track import (
    CLICK_HALF_LIFE_MS,
    HOVER_HALF_LIFE_MS,
    Track,
    joined_recent,
)


def view(root: str, tracks: Sequence[Track]) -> Track:
    """The tracks of one profile read as one track.

    The join is commutative, associative and idempotent over sets of tracks: it depends on which tracks
    there are and not on the order in which they were linked. One track is its own view, uncopied.
    """
    if len(tracks) == 1:
        return tracks[0]
    joined = Track(root)
    joined.orders, joined.offer_views, joined.offer_clicks = {}, {}, {}
    joined.groups, joined.decisions = {}, Stubs()
    ordered = sorted(tracks, key=lambda t: t.id)
    for track in ordered:
        _join_behaviour(joined, track)
        _join_commerce(joined, track)
        _join_person(joined, track)
    joined.past, joined.n_folded = _weighted_past(ordered)
    joined.recent = joined_recent(ordered)
    joined.cart = sorted((op for t in ordered for op in t.cart if op[0] > joined.last_order_ms), key=lambda op: op[:3])
    return joined


def _join_behaviour(joined: Track, track: Track) -> None:
    joined.n_signals += track.n_signals
    joined.n_late += track.n_late
    joined.n_carts_left += track.n_carts_left
    joined.bot |= track.is_bot
    joined.latest_ms = max(joined.latest_ms, track.latest_ms)
    joined.touched_ms = max(joined.touched_ms, track.touched_ms)
    joined.past_end_ms = max(joined.past_end_ms, track.past_end_ms)
    for session in track.sessions:
        add_to_sessions(joined.sessions, session.copy())
    joined.clicks.add(track.clicks.value, track.clicks.at_ms, CLICK_HALF_LIFE_MS)
    joined.hover.add(track.hover.value, track.hover.at_ms, HOVER_HALF_LIFE_MS)


def _join_commerce(joined: Track, track: Track) -> None:
    joined.checkout_ms = max(joined.checkout_ms, track.checkout_ms)
    joined.last_order_ms = max(joined.last_order_ms, track.last_order_ms)
    for order_id, order in track.orders.items():
        known = joined.orders.get(order_id)
        if known is None:
            joined.orders[order_id] = list(order)
        else:
            times = [t for t in (known[0], order[0]) if t is not None]
            joined.orders[order_id] = [
                min(times) if times else None,
                max(known[1], order[1]),
                max(known[2], order[2]),
                known[3] or order[3],
            ]
    if track.in_view and (not joined.in_view or joined.in_view[:2] < track.in_view[:2]):
        joined.in_view = track.in_view
    if track.offer_times:
        joined.offer_times = counted_once([*joined.offer_times, *track.offer_times])
    for mine, theirs in ((joined.offer_views, track.offer_views), (joined.offer_clicks, track.offer_clicks)):
        for offer, n in theirs.items():
            mine[offer] = mine.get(offer, 0) + n


def _join_person(joined: Track, track: Track) -> None:
    for name, stamp in track.traits.items():
        if name not in joined.traits or joined.traits[name][1:] < stamp[1:]:
            joined.traits[name] = stamp
    for group, t_ms in track.groups.items():
        joined.groups[group] = max(joined.groups.get(group, 0), t_ms)
    for name, since in track.memberships.items():
        if name not in joined.memberships or since[0] < joined.memberships[name][0]:
            joined.memberships[name] = since
    for offer, times in track.served.items():
        known_times = joined.served.get(offer, ())
        joined.served[offer] = array("q", sorted([*known_times, *times])[-MAX_TIMES:])
    joined.decisions.extend(track.decisions)
    for name, assigned in track.assignments.items():
        known = joined.assignments.get(name)
        if known is None or [assigned[1], str(assigned[0])] < [known[1], str(known[0])]:
            joined.assignments[name] = assigned


def _weighted_past(tracks: Iterable[Track]) -> tuple[list[float], int]:
    rows = [(t.n_folded, t.past) for t in tracks if t.n_folded]
    n = sum(weight for weight, _ in rows)
    if not n:
        return [0.0] * 6, 0
    columns: Iterable[tuple[Any, ...]] = zip(*(past for _, past in rows), strict=True)
    return [sum(w * x for (w, _), x in zip(rows, column, strict=True)) / n for column in columns], n
