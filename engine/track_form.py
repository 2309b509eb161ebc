"""A track as plain lists, bit for bit: the form of snapshots, and of a track that moves to another home."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any, Final

from engine.decay import DecayedSum
from engine.nothing import NO_ENTRIES, NO_PAST, NOTHING
from engine.seen import Seen
from engine.session import Session
from engine.stubs import NO_STUBS, Stubs

if TYPE_CHECKING:
    from engine.track import Track

FORM: Final = 2
"""The version that is written; the first, with one row to a decision, is still read."""
HOMES: Final = 37
"""Where the former homes stand in a snapshot."""


def state_of(track: Track) -> list[Any]:
    """The whole state; the first element is the version of this form."""
    return [
        FORM, track.id, track.root, list(track.members.items()), track.moved_to, track.pending_to, track.generation,
        track.seen.pairs(), track.n_signals, track.n_late, track.bot, track.latest_ms, track.touched_ms,
        [s.to_list() for s in track.sessions], track.n_folded, list(track.past), track.past_end_ms,
        [None if math.isnan(x) else x for x in track.recent], [track.clicks.value, track.clicks.at_ms],
        [track.hover.value, track.hover.at_ms], [list(op) for op in track.cart], track.checkout_ms,
        track.last_order_ms,
        [[k, *v[:2], None if v[2] == float("inf") else v[2], v[3]] for k, v in track.orders.items()],
        list(track.offer_views.items()), list(track.offer_clicks.items()),
        [[k, *v] for k, v in track.traits.items()], list(track.groups.items()),
        [[k, *v] for k, v in track.memberships.items()], [[k, *v] for k, v in track.served.items()],
        track.decisions.to_list() if track.decisions else [], track.decisions.requests(),
        [[k, *v] for k, v in track.assignments.items()], track.n_carts_left,
        list(track.in_view), [list(row) for row in track.offer_times], track.looked_ms,
        list(track.homes), list(track.claims),
    ]  # fmt: skip


def fill(track: Track, state: list[Any]) -> None:
    """Give a fresh track the state that `state_of` told.

    Raises:
        ValueError: the form is of another version.
    """
    if state[0] not in (1, FORM):
        raise ValueError(f"a snapshot of format {state[0]}, this engine reads 1 and {FORM}")
    track.root, members, track.moved_to, track.pending_to, track.generation = state[2:7]
    track.members = dict(members)
    track.seen = Seen(state[7])
    track.n_signals, track.n_late, track.bot, track.latest_ms, track.touched_ms = state[8:13]
    track.sessions = [Session.from_list(row) for row in state[13]]
    track.n_folded, track.past, track.past_end_ms = state[14], list(state[15]) if state[14] else NO_PAST, state[16]
    track.recent = array("d", [math.nan if x is None else x for x in state[17]])
    track.clicks, track.hover = DecayedSum(*state[18]), DecayedSum(*state[19])
    track.cart = [(r[0], r[1], r[2], r[3], r[4], r[5]) for r in state[20]]
    track.checkout_ms, track.last_order_ms = state[21:23]
    track.orders = {r[0]: [r[1], r[2], float("inf") if r[3] is None else r[3], r[4]] for r in state[23]}
    track.orders = track.orders or NO_ENTRIES
    track.offer_views, track.offer_clicks = dict(state[24]) or NO_ENTRIES, dict(state[25]) or NO_ENTRIES
    track.traits = {r[0]: list(r[1:]) for r in state[26]}
    track.groups = dict(state[27]) or NO_ENTRIES
    track.memberships = {r[0]: list(r[1:]) for r in state[28]}
    track.served = {r[0]: array("q", r[1:]) for r in state[29]}
    read = Stubs.from_rows if state[0] == 1 else Stubs.from_list
    track.decisions = read(state[30], state[31]) if state[30] else NO_STUBS
    track.assignments = {r[0]: list(r[1:]) for r in state[32]}
    track.n_carts_left, in_view, offer_times, track.looked_ms, homes, claims = state[33:39]
    track.in_view, track.offer_times = in_view or NOTHING, [list(row) for row in offer_times] or NOTHING
    track.homes, track.claims = homes or NOTHING, claims or NOTHING
