"""Which decisions a track remembers: a stub of each, packed, and what many of them have in common kept once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from engine.ids import DecisionId
from engine.nothing import NO_ENTRIES

MAX_STUBS: Final = 128
"""Decisions that a track remembers; of older ones the journal tells."""
LIVE, OVERTAKEN = 0, 1
"""States of a decision: given to somebody, or answered for by the ingress before it came."""
STRIDE: Final = 4
"""Numbers to each decision: t_ms, epoch, seq, and partition and index in one."""

Shown = tuple[tuple[str, ...], tuple[str, ...]]
"""(items shown, offers among them that count as served)."""
Rare = tuple[dict[str, Any], int, list[Any]]
"""(rewards by type, state, charges to budgets): of the few decisions that have any."""
_NOTHING_RARE: Final[Rare] = (NO_ENTRIES, LIVE, [])


class Stub(NamedTuple):
    """One decision as far as it is remembered."""

    t_ms: int
    shown: tuple[str, ...]
    served: tuple[str, ...]
    rewards: Mapping[str, Any]
    state: int
    charges: list[Any]


class Stubs:
    """The newest decisions of one track, oldest first. Verbs: add, get, reward, overtake; the rest reads.

    Decisions are told apart by the text of their `DecisionId`, requests by a keyed hash; page views are compared by
    an 8-byte hash. About 64 bytes to a decision.
    """

    __slots__ = ("_pages", "_places", "_rare", "_requests", "_shown")

    def __init__(self) -> None:
        self._places = array("Q")
        self._pages = array("Q")
        self._requests = array("Q")
        self._shown: list[Shown] = []
        self._rare: dict[str, Rare] = NO_ENTRIES

    def __len__(self) -> int:
        return len(self._shown)

    # -- what happens to decisions ---------------------------------------------------------------------

    def add(
        self, decision_id: DecisionId, t_ms: int, shown: Sequence[str], served: Sequence[str], *,
        page_view: str | None = None, request: int | None = None, charges: list[Any] | None = None,
    ) -> None:  # fmt: skip
        """Remember one decision more, and forget the oldest beyond `MAX_STUBS`."""
        place = decision_id.partition << 32 | decision_id.index
        self._places.extend((t_ms, decision_id.epoch, decision_id.seq, place))
        self._pages.append(_page_hash(page_view))
        self._requests.append(request or 0)
        self._shown.append(_shared(tuple(shown), tuple(served)))
        if charges:
            # What may come back should nobody have been given this decision.
            self._note(str(decision_id), ({}, LIVE, charges))
        while len(self._shown) > MAX_STUBS:
            if self._rare:
                self._rare.pop(self._id_at(0), None)
            del self._places[:STRIDE], self._pages[0], self._requests[0], self._shown[0]

    def reward(self, decision_id: str, kind: str, value: float) -> None:
        """Note a reward of one type; nothing happens where the decision is not remembered."""
        stub = self.get(decision_id)
        if stub is not None:
            self._note(decision_id, ({**stub.rewards, kind: value}, stub.state, stub.charges))

    def overtake(self, decision_id: str) -> Stub | None:
        """Mark a decision that nobody was given; as it was, or None where that is known or it is not remembered."""
        at = self._find(decision_id)
        if at is None or (stub := self._stub(at, decision_id)).state == OVERTAKEN:
            return None
        self._note(decision_id, (dict(stub.rewards), OVERTAKEN, stub.charges))
        # The same request, asked again, is decided anew.
        self._requests[at] = 0
        return stub

    # -- reading ---------------------------------------------------------------------------------------

    def get(self, decision_id: str) -> Stub | None:
        """A decision by its id.

        Raises:
            engine.errors.InvalidInput: `bad_decision_id`.
        """
        at = self._find(decision_id)
        return None if at is None else self._stub(at, decision_id)

    def ids(self) -> list[str]:
        """Every decision remembered."""
        return [self._id_at(at) for at in range(len(self))]

    def shown_on(self, page_view: str) -> list[str]:
        """The items shown on a page view so far."""
        page = _page_hash(page_view)
        if page not in self._pages:
            return []
        return [item for at, other in enumerate(self._pages) if other == page for item in self._shown[at][0]]

    def of_request(self, request: int) -> str | None:
        """The decision taken for a request, by the request's hash."""
        if request not in self._requests:
            return None
        return self._id_at(len(self) - 1 - self._requests[::-1].index(request))

    def extend(self, other: Stubs) -> None:
        """Remember what another track does as well, with no bound: for a view of several tracks."""
        self._places.extend(other._places)
        self._pages.extend(other._pages)
        self._requests.extend(other._requests)
        self._shown.extend(other._shown)
        if other._rare:
            self._rare = {**self._rare, **other._rare}

    # -- forms -----------------------------------------------------------------------------------------

    def to_list(self) -> list[Any]:
        """[places, page views, distinct shown, which of those by decision, the rare things]; lists of plain values."""
        distinct = {shown: n for n, shown in enumerate(dict.fromkeys(self._shown))}
        return [
            self._places.tolist(),
            self._pages.tolist() if any(self._pages) else [],
            [[list(items), list(served)] for items, served in distinct],
            list(map(distinct.__getitem__, self._shown)),
            [[name, dict(rewards), state, charges] for name, (rewards, state, charges) in self._rare.items()],
        ]

    def requests(self) -> list[int]:
        """The request hash of each decision, 0 where it had none; empty where none had."""
        return self._requests.tolist() if any(self._requests) else []

    @classmethod
    def from_list(cls, state: list[Any], requests: list[int]) -> Stubs:
        """Read `to_list` and `requests` back."""
        stubs = cls()
        places, pages, distinct, which, rare = state
        shown = [_shared(tuple(items), tuple(served)) for items, served in distinct]
        stubs._places, stubs._shown = array("Q", places), [shown[n] for n in which]
        none = [0] * len(which)
        stubs._pages, stubs._requests = array("Q", pages or none), array("Q", requests or none)
        for name, rewards, given, charges in rare:
            stubs._note(name, (rewards, given, charges))
        return stubs

    @classmethod
    def from_rows(cls, rows: Iterable[list[Any]], requests: Iterable[tuple[int, str]]) -> Stubs:
        """Read the first form, one row to a decision: [id, t_ms, -, -, shown, page view, rewards, state, served, …]."""
        stubs, asked = cls(), {name: request for request, name in requests}
        for name, t_ms, _, _, shown, page_view, rewards, given, served, *charges in rows:
            request = asked.get(name)
            stubs.add(DecisionId.parse(name), t_ms, shown, served, page_view=page_view, request=request)
            if rewards or given != LIVE or charges:
                stubs._note(name, (rewards, given, charges[0] if charges else []))
        return stubs

    # -- inside ----------------------------------------------------------------------------------------

    def _note(self, decision_id: str, rare: Rare) -> None:
        if self._rare is NO_ENTRIES:
            self._rare = {}
        self._rare[decision_id] = rare

    def _stub(self, at: int, decision_id: str) -> Stub:
        rewards, state, charges = self._rare.get(decision_id, _NOTHING_RARE)
        return Stub(self._places[STRIDE * at], *self._shown[at], rewards, state, charges)

    def _id_at(self, at: int) -> str:
        _, epoch, seq, place = self._places[STRIDE * at : STRIDE * (at + 1)]
        return str(DecisionId(place >> 32, epoch, seq, place & 0xFFFFFFFF))

    def _find(self, decision_id: str) -> int | None:
        # The newest first: what is asked about has mostly just been decided.
        wanted, places = DecisionId.parse(decision_id), self._places
        place = wanted.partition << 32 | wanted.index
        for start in range(len(places) - STRIDE, -1, -STRIDE):
            if places[start + 2] == wanted.seq and places[start + 3] == place and places[start + 1] == wanted.epoch:
                return start // STRIDE
        return None


NO_STUBS: Final = Stubs()
"""Of a track for which nothing has been decided: one for all of them, never written to."""


@lru_cache(maxsize=4096)
def _shared(shown: tuple[str, ...], served: tuple[str, ...]) -> Shown:
    """The same for the same, as long as it is often asked for."""
    return (shown, shown if shown == served else served)


def _page_hash(page_view: str | None) -> int:
    """0 for none."""
    return 0 if page_view is None else int.from_bytes(blake2b(page_view.encode(), digest_size=8).digest(), "big") or 1
