"""Attribution: the journal of all partitions folded into examples, the same ones whatever order it is read in.

A decision, or a visit without one, becomes a case at once; facts about it are added as they are read, in whichever
partition they stand: conversions inside the window of its campaign, by decision id or by profile, orders that are
refunded or cancelled, engagements, rewards. It matures when every partition has been read past the end of its window,
so that "nothing came of it" is never said too early; what is read later corrects it in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from engine import record as kinds
from engine.inputs import IS_BOT
from engine.record import Record
from engine.sticky import bucket
from training.as_served import Books, Taught, of_decision, of_visit
from training.calendar_queue import CalendarQueue
from training.example import Amendment, Example
from training.joining import Joining
from training.outcomes import CONVERSION, ORDER_KINDS, Case, Event, Order, event_of
from training.upkeep import tidy

GRACE_MS: Final = 60_000
"""What is waited beyond a window, for what is on its way."""
BOTS: Final = "bot"
"""The kind of event that stands for what is marked as a bot's."""
Position = tuple[int, int]


class Attribution:
    """Verbs: observe, advance, thin; amended and opened, what has come of them; drop.

    What was observed is told when it is asked for: of much at once, each example once. `mark` is the keyed hash by
    which erased tracks are told.
    """

    def __init__(
        self,
        n_partitions: int,
        books: Books,
        mark: Callable[[str], int] = hash,
        grace_ms: int = GRACE_MS,
    ) -> None:
        self.books, self.mark, self.grace_ms = books, mark, grace_ms
        self.watermarks = [0] * n_partitions
        self.cases: dict[str, Case] = {}
        self.orders: dict[str, Order] = {}
        self.joining = Joining()
        self.loose: dict[str, list[tuple[int, Any]]] = {}
        """Facts about decisions that have not been read yet: [received, fact]."""
        self.forgotten: dict[int, int] = {}
        self.share = 1.0
        """Of the profiles, by hash: all, or fewer where more is decided than can be kept until it matures."""
        self.pace = 1.0
        """The same, where more is decided in a second than there is a use for."""
        self.due = CalendarQueue()
        self.counts = {"cases": 0, "left_out": 0, "matured": 0, "corrected": 0, "withdrawn": 0}
        self._fresh: dict[str, Example] = {}
        """Opened, and not told yet."""
        self._changed: dict[str, Case] = {}
        self._withdrawn: list[Amendment] = []
        self._never_told: list[Example] = []
        self._to_forget: set[int] = set()
        self._tidied_ms = 0

    @property
    def watermark_ms(self) -> int:
        """Everything received before this has been read."""
        return min(self.watermarks)

    # -- reading ---------------------------------------------------------------------------------------

    def observe(self, partition: int, position: Position, records: Iterable[Record | None]) -> None:
        """Take the records of one journal entry in; of a partition, entries come in the order of its journal."""
        latest_ms = self.watermarks[partition]
        for index, record in enumerate(records):
            if record is not None:
                self._record(record, f"{partition}_{position[0]}_{position[1]}_{index}")
                latest_ms = max(latest_ms, record[2])
        self.watermarks[partition] = latest_ms
        if self._to_forget:
            self._forget()

    @property
    def taken_share(self) -> float:
        """Of the profiles, whose decisions and visits are taken on now."""
        return min(self.share, self.pace)

    def leaves_out(self, root: str) -> bool:
        """Whether a decision of a profile is not taken on, and ends no visit that was."""
        return not self._takes(root) and not self.joining.visits_of(root)

    def leave_out(self, partition: int, received_ms: int) -> None:
        """A decision that is left out has been read."""
        self.counts["left_out"] += 1
        self.watermarks[partition] = max(self.watermarks[partition], received_ms)

    def advance(self, partition: int, watermark_ms: int) -> None:
        """All that this partition received before a time has been read; what all of them are past, matures."""
        self.watermarks[partition] = max(self.watermarks[partition], watermark_ms)
        now_ms = self.watermark_ms
        for case in self.due.take(now_ms):
            if self.cases.get(case.key) is case:
                case.matured = True
                self.counts["matured"] += 1
                self._changed[case.key] = case
        if now_ms > self._tidied_ms + self.grace_ms:
            self._tidied_ms = now_ms
            tidy(self, now_ms)

    def thin(self) -> None:
        """Take on half of the profiles from now on; the unmatured examples of the others are withdrawn."""
        self.share /= 2.0
        for case in [case for case in self.cases.values() if not case.matured and not _within(self.share, case.root)]:
            self._withdraw(case)

    def drop(self, keys: Iterable[str]) -> None:
        """Examples that are kept no longer: nothing bears on them any more."""
        for key in keys:
            case = self.cases.pop(key, None)
            if case is not None:
                self._changed.pop(key, None)
                self._let_go(case)

    def _record(self, record: Record, place: str) -> None:
        kind = record[0]
        if kind == kinds.SIGNALS:
            self._signals(record)
        elif kind == kinds.DECISION:
            self._superseded_visits(record)
            if record[7][IS_BOT]:
                # Found out meanwhile: what was decided before teaches nothing either.
                self._event(Event(BOTS, record[2], 0, record[1]), None)
            self._open(of_decision(record, f"d_{place}", self.books) if self._takes(record[1]) else None)
        elif kind == kinds.VISIT:
            self._open(of_visit(record, f"v:{place}") if self._takes(record[1]) else None)
        elif kind == kinds.REWARD:
            self._about(record[3], record[2], [record[4], float(record[5])])
        elif kind == kinds.SUPERSEDED:
            self._about(record[3], record[2], None)
        elif kind == kinds.ADOPTED:
            self._linked(record[1], record[3], record[2])
        elif kind == kinds.FORGOTTEN:
            self.forgotten[record[3]] = max(record[2], self.forgotten.get(record[3], 0))
            self._to_forget.add(record[3])

    # -- cases -----------------------------------------------------------------------------------------

    def _takes(self, root: str) -> bool:
        return _within(self.taken_share, root)

    def _open(self, taught: Taught | None) -> None:
        if taught is None:
            self.counts["left_out"] += 1
            return
        example, goal, cart = taught
        if self.forgotten and example.t_ms <= self.forgotten.get(self.mark(example.track), -1):
            return
        due_ms = example.t_ms + goal.within_ms + self.grace_ms
        case = Case(example.key, example.track, example.t_ms, due_ms, goal, cart, example.offer)
        self.cases[case.key] = case
        self.counts["cases"] += 1
        self._fresh[case.key] = example
        self.due.add(case)
        self.joining.add_case(case)
        for _, fact in self.loose.pop(case.key, ()):
            self._named(case, fact)
        for event in self.joining.events_for(case):
            self._apply(case, event)

    def _superseded_visits(self, record: Record) -> None:
        # A visit is one without a decision: once one is taken, what follows is no longer what comes of showing nothing.
        for case in self.joining.visits_of(record[1]):
            if case.covers(record[2]):
                self._withdraw(case)

    def _fact(self, case: Case, *facts: str) -> None:
        case.facts = case.facts.union(facts)
        self._changed[case.key] = case

    def _withdraw(self, case: Case) -> None:
        if self.cases.pop(case.key, None) is None:
            return
        self._changed.pop(case.key, None)
        self._let_go(case)
        self.counts["withdrawn"] += 1
        fresh = self._fresh.pop(case.key, None)
        if fresh is not None:
            self._never_told.append(fresh._replace(revision=case.revision + 1, withdrawn=True))
        else:
            told = case.told(self.orders)
            self._withdrawn.append(Amendment(case.key, case.revision + 1, *told, matured=False, withdrawn=True))

    def _let_go(self, case: Case) -> None:
        self.joining.remove_case(case)
        for name in case.orders:
            if case.key in self.orders[name].credited:
                self.orders[name].credited.remove(case.key)

    # -- facts -----------------------------------------------------------------------------------------

    def _signals(self, record: Record) -> None:
        track, received_ms, flags = record[1], record[2], record[3]
        root = record[5] if len(record) > 5 else None
        if flags & kinds.BOT:
            self._event(Event(BOTS, received_ms, 0, track), root)
            return
        for row in record[4]:
            event = event_of(track, row, no_training=bool(flags & kinds.NO_TRAINING))
            if event is None:
                continue
            if event.kind in ORDER_KINDS:
                self._order(event)
            if event.decision is not None:
                self._about(event.decision, received_ms, event)
            elif event.kind not in ORDER_KINDS or event.kind == "order_completed":
                self._event(event, root)

    def _order(self, event: Event) -> None:
        order = self.orders.setdefault(event.order, Order())
        order.add(event)
        for key in order.credited:
            case = self.cases[key]
            self.counts["corrected"] += case.matured
            self._fact(case, *order.facts)

    def _event(self, event: Event, root: str | None) -> None:
        for case in self.joining.add_event(event, root):
            self._apply(case, event)

    def _about(self, key: str, received_ms: int, fact: Any) -> None:
        """A fact that names its decision: an event, [type, value] of a reward, or None where it was superseded."""
        case = self.cases.get(key)
        if case is None:
            self.loose.setdefault(key, []).append((received_ms, fact))
        else:
            self._named(case, fact)

    def _named(self, case: Case, fact: Any) -> None:
        if case.key not in self.cases:
            return
        if fact is None:
            self._withdraw(case)
        elif isinstance(fact, Event):
            self._apply(case, fact)
        else:
            kind, value = fact
            if kind == CONVERSION and value > 0.0:
                self._converted(case, value * case.goal.value.amount(case.cart))
            elif value > 0.0:
                case.engaged = True
            self._fact(case, f"r{kind}")

    def _converted(self, case: Case, worth: float) -> None:
        case.converted, case.worth = True, max(case.worth, worth)
        self.counts["corrected"] += case.matured

    def _apply(self, case: Case, event: Event) -> None:
        if case.key not in self.cases or not case.covers(event.t_ms):
            return
        if event.kind == BOTS:
            self._withdraw(case)
            return
        succeeds, engages = case.reads(event)
        if succeeds and event.no_training:
            self._withdraw(case)
            return
        if succeeds and event.order:
            order = self.orders[event.order]
            if event.order not in case.orders:
                case.orders += (event.order,)
                order.credited.append(case.key)
                self.counts["corrected"] += case.matured
            self._fact(case, f"o{event.message}", *order.facts)
        elif succeeds:
            cart = case.cart if event.value is None else event.value
            self._converted(case, case.goal.value.amount(cart))
            self._fact(case, f"e{event.message}")
        if engages and not event.no_training:
            case.engaged = True
            self._fact(case, f"e{event.message}")

    def _linked(self, track: str, root: str, received_ms: int) -> None:
        for case, event in list(self.joining.link(track, root, received_ms)):
            self._apply(case, event)

    # -- telling ---------------------------------------------------------------------------------------

    @property
    def n_opened(self) -> int:
        """How many examples wait to be told for the first time."""
        return len(self._fresh)

    def amended(self) -> list[Amendment]:
        """What has come of the examples that were told before."""
        orders, fresh = self.orders, self._fresh
        found = [
            Amendment(key, case.revision, *case.told(orders), case.matured)
            for key, case in self._changed.items()
            if key not in fresh
        ]
        found += self._withdrawn
        self._withdrawn, self._changed = [], {key: case for key, case in self._changed.items() if key in fresh}
        return found

    def opened(self) -> list[Example]:
        """The examples that were not told before, as decided; what has come of them already is `amended` afterwards."""
        found = [*self._fresh.values(), *self._never_told]
        self._fresh, self._never_told = {}, []
        return found

    def _forget(self) -> None:
        hit = {root for root in self.joining.ids() if self.mark(root) in self._to_forget}
        for root in hit:
            until_ms = self.forgotten[self.mark(root)]
            for case in self.joining.cases_of(root):
                if case.root == root and case.t_ms <= until_ms:
                    self._withdraw(case)
            self.joining.forget_events(root, until_ms)
        self._to_forget.clear()


def _within(share: float, root: str) -> bool:
    return share >= 1.0 or bucket("learning", root) < share
