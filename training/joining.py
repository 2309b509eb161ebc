"""Which events may bear on which examples: both are found by the identities of a profile, however late linked."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from training.outcomes import Case, Event


class Joining:
    """Indexes of cases and events by identity. Verbs: add_case, add_event, link, remove_case, tidy.

    A case and an event belong together when they share an identity: the track or root of either, or a root that the
    track was linked to after the one and before the case was due.
    """

    def __init__(self) -> None:
        self.links: dict[str, dict[str, list[int]]] = {}
        """track → root it was linked to → when."""
        self._cases: dict[str, list[Case]] = {}
        self._visits: dict[str, list[Case]] = {}
        self._events: dict[str, list[tuple[Event, str | None]]] = {}
        self._newest: dict[str, int] = {}
        """identity → a time that none of its events is after: most decisions come after all that is known, and the
        events of most visitors have long left the processor's caches."""

    def ids(self) -> set[str]:
        """Every identity of a case or an event."""
        return self._cases.keys() | self._events.keys()

    def cases_of(self, identity: str) -> list[Case]:
        """The cases that an identity leads to."""
        return list(self._cases.get(identity, ()))

    def visits_of(self, root: str) -> list[Case]:
        """The cases of a profile that are visits without a decision."""
        return list(self._visits.get(root, ()))

    def add_case(self, case: Case) -> None:
        """Have a case found by its root, and by what that has been linked to."""
        for identity in self._linked(case.root):
            self._cases.setdefault(identity, []).append(case)
        if case.goal.visit:
            self._visits.setdefault(case.root, []).append(case)

    def remove_case(self, case: Case) -> None:
        """Have it found no more."""
        if case.goal.visit and case in (visits := self._visits.get(case.root, [])):
            visits.remove(case)
            if not visits:
                del self._visits[case.root]
        for identity in self._linked(case.root):
            held = self._cases.get(identity)
            if held is not None and case in held:
                held.remove(case)
                if not held:
                    del self._cases[identity]

    def add_event(self, event: Event, root: str | None) -> list[Case]:
        """Keep an event of a track, which belonged to `root` when it was received; returns the cases of its profile."""
        found: dict[str, Case] = {}
        for identity in {*self._linked(event.track), event.track if root is None else root}:
            self._events.setdefault(identity, []).append((event, root))
            self._newest[identity] = max(self._newest.get(identity, 0), event.t_ms)
            for case in self._cases.get(identity, ()):
                if self._joined(case, event, root):
                    found[case.key] = case
        return list(found.values())

    def events_for(self, case: Case) -> list[Event]:
        """The events kept that are of the case's profile, and not from before it."""
        t_ms, newest = case.t_ms, self._newest
        recent = [identity for identity in self._linked(case.root) if newest.get(identity, -1) >= t_ms]
        if not recent:
            return []
        held = (one for identity in recent for one in self._events.get(identity, ()) if one[0].t_ms >= t_ms)
        return list({id(event): event for event, root in held if self._joined(case, event, root)}.values())

    def link(self, track: str, root: str, at_ms: int) -> Iterator[tuple[Case, Event]]:
        """A track was linked to a root; gives the pairs that may belong together by it."""
        times = self.links.get(track, {}).get(root)
        if track == root or (times is not None and at_ms in times):
            return
        new = times is None
        self.links.setdefault(track, {}).setdefault(root, []).append(at_ms)
        mine = [case for case in self._cases.get(track, ()) if case.root == track]
        sent = [one for one in self._events.get(track, ()) if one[0].track == track]
        if new:
            self._cases.setdefault(root, []).extend(mine)
            self._events.setdefault(root, []).extend(one for one in sent if one[1] != root)
            self._newest[root] = max(self._newest.get(root, 0), self._newest.get(track, 0))
        for cases, events in ((mine, self._events.get(root, ())), (self._cases.get(root, ()), sent)):
            for case in list(cases):
                for event, of in list(events):
                    if self._joined(case, event, of):
                        yield case, event

    def forget_events(self, identity: str, until_ms: int) -> None:
        """Forget what an identity sent up to a time."""
        if identity not in self._cases:
            # Links made since are those of whoever came by that name afterwards, also where they are read first.
            roots = {root: [t for t in times if t > until_ms] for root, times in self.links.pop(identity, {}).items()}
            kept = {root: times for root, times in roots.items() if times}
            if kept:
                self.links[identity] = kept
        held = [one for one in self._events.pop(identity, ()) if one[0].t_ms > until_ms]
        if held:
            self._events[identity] = held
        else:
            self._newest.pop(identity, None)

    def tidy(self, before_ms: int) -> None:
        """Let go of events, and of links without cases, from before a time."""
        for identity in list(self._events):
            kept = [one for one in self._events[identity] if one[0].t_ms >= before_ms]
            if kept:
                self._events[identity] = kept
            else:
                del self._events[identity]
                self._newest.pop(identity, None)
        for track, roots in list(self.links.items()):
            if track not in self._cases and max(max(times) for times in roots.values()) < before_ms:
                del self.links[track]
        for identity in [i for i, held in self._cases.items() if not held]:
            del self._cases[identity]

    def _linked(self, track: str) -> Collection[str]:
        links = self.links.get(track)
        return (track,) if links is None else {track, *links}

    def _at(self, track: str, from_ms: int, until_ms: int) -> set[str]:
        """A track and what it was linked to between two times."""
        links = self.links.get(track)
        if not links:
            return {track}
        return {track, *(root for root, times in links.items() if any(from_ms <= t <= until_ms for t in times))}

    def _joined(self, case: Case, event: Event, root: str | None) -> bool:
        if case.root in (event.track, root):
            return True
        mine = self._at(case.root, case.t_ms, case.due_ms)
        return root in mine or not mine.isdisjoint(self._at(event.track, event.t_ms, case.due_ms))

    # -- saving ----------------------------------------------------------------------------------------

    def to_list(self) -> list[Any]:
        """Links and events; cases are put back by whoever holds them."""
        held = {id(event): (event, root) for row in self._events.values() for event, root in row}
        return [
            [[track, list(roots.items())] for track, roots in self.links.items()],
            [[event.to_list(), root] for event, root in held.values()],
        ]

    @classmethod
    def from_list(cls, row: list[Any]) -> Joining:
        """Read `to_list` back."""
        joining = cls()
        joining.links = {track: {root: list(times) for root, times in roots} for track, roots in row[0]}
        for event_row, root in row[1]:
            joining.add_event(Event(*event_row), root)
        return joining
