"""When offers were seen and redeemed: each decision's once, and of no offer so often that another is forgotten."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

MAX_TIMES: Final = 32
"""Of one offer, times seen and times redeemed that are remembered; a cap above can never be reached."""
MAX_OF_ALL: Final = 256
"""Of all offers together, times seen, and times redeemed."""

OfferTime = list[Any]
"""[t_ms, 0 seen or 1 redeemed, offer, decision or ""]."""


def counted_once(rows: Iterable[OfferTime]) -> list[OfferTime]:
    """The latest times, in their order, whatever the order they came in; of the same decision the earliest.

    What is redeemed is not forgotten for what is seen, nor one offer for another: a token must not become good again
    because much else was looked at since.
    """
    once: list[OfferTime] = []
    known: set[tuple[Any, ...]] = set()
    for row in sorted(rows):
        key = tuple(row[1:])
        if not row[3] or key not in known:
            once.append(row)
            known.add(key)
    kept: list[OfferTime] = []
    of_offer, of_all = Counter[tuple[int, str]](), Counter[int]()
    for row in reversed(once):
        kind, offer = row[1], row[2]
        of_offer[kind, offer] += 1
        if of_offer[kind, offer] <= MAX_TIMES and of_all[kind] < MAX_OF_ALL:
            of_all[kind] += 1
            kept.append(row)
    return kept[::-1]


def with_one(times: list[OfferTime], row: OfferTime) -> list[OfferTime]:
    """`counted_once` of these and one more, where these are what it gave before; a new list, a fifth of the work."""
    if row[3]:
        same = next((known for known in times if known[3] == row[3] and known[1:] == row[1:]), None)
        if same is not None and same <= row:
            return times
        times = [known for known in times if known is not same]
    else:
        times = times.copy()
    insort(times, row)
    of_kind = [known for known in times if known[1] == row[1]]
    of_offer = [known for known in of_kind if known[2] == row[2]]
    gone = of_offer[0] if len(of_offer) > MAX_TIMES else of_kind[0] if len(of_kind) > MAX_OF_ALL else None
    return times if gone is None else [known for known in times if known is not gone]
