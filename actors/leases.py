"""A shard's share of the budgets: what it leased, what it has spent, what may yet come back. No store is asked here."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from actors.ledger import DIGITS
from engine.errors import KairosError
from engine.periods import Period
from engine.supply import Charge
from engine.terms import CompiledBudget

NOT_WRITTEN: Final = frozenset({"fenced", "store_refused"})
"""Failures of an append after which nothing stands in the journal; after others it may."""
TICKS_AHEAD: Final = 8
"""Rounds of refilling that the leased amount should last for."""
SLACK_MS: Final = 60_000
"""What may come back does so this long after its time, so that nobody gives it back a second time."""


@dataclass(slots=True)
class Balance:
    """One account in this shard. `granted` is what the ledger has given to this life in all, `spent` what is gone."""

    budget: CompiledBudget
    period: Period
    granted: float = 0.0
    spent: float = 0.0
    used: float = 0.0
    rate: float = 0.0
    ask_again_ms: float = 0.0
    """By the loop's time: before then the ledger is not asked, since it had nothing."""

    @property
    def left(self) -> float:
        """What can be spent without asking."""
        return round(self.granted - self.spent, DIGITS)

    def spend(self, amount: float) -> None:
        """Take an amount; a negative one comes back."""
        self.spent = round(self.spent + amount, DIGITS)
        self.used += max(0.0, amount)

    def target(self, n_shards: int) -> float:
        """How much to have at hand: what is used in the next rounds, at least a small part of the whole."""
        small = self.budget.max / (50.0 * max(1, n_shards))
        wanted, step = max(small, TICKS_AHEAD * self.rate), self.budget.quantum
        if step:
            return max(1, round(wanted / step)) * step
        return max(wanted, self.budget.max / 20.0)


@dataclass(slots=True)
class Spending:
    """What one batch of requests took and gave back, until it is known what became of the batch."""

    taken: list[tuple[int, Charge, tuple[str, str], str]] = field(default_factory=list)
    """Partition, charge, (decision id, offer), track."""
    returned: list[tuple[int, Charge]] = field(default_factory=list)


@dataclass(slots=True)
class Leases:
    """The balances of one life of one shard. Verbs: left, take, give_back, seen, seal, committed, expire.

    What is taken and given back belongs to the batch being evaluated; `seal` hands it out when that is over, and
    `committed` hears what became of it.
    """

    balances: dict[str, Balance] = field(default_factory=dict)
    open_epochs: dict[int, int] = field(default_factory=dict)
    """Under which epoch the ledger knows that this life spends, by partition."""
    in_doubt: float = 0.0
    """Spent on decisions of which nobody knows whether they stand in the journal; counted as spent."""
    _current: dict[str, tuple[Period, str]] = field(default_factory=dict)
    _batch: Spending = field(default_factory=Spending)
    _pending: dict[tuple[str, str], Charge] = field(default_factory=dict)
    _of_track: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    _expiring: list[tuple[int, tuple[str, str], str]] = field(default_factory=list)

    def account(self, budget: CompiledBudget, now_ms: int) -> tuple[Period, str]:
        """The period of a moment and its account."""
        known = self._current.get(budget.key)
        if known is not None and known[0].start_ms <= now_ms < known[0].end_ms and known[1].startswith(budget.prefix):
            return known
        period = budget.period(now_ms)
        found = self._current[budget.key] = period, budget.account(period)
        return found

    # -- in the batch ----------------------------------------------------------------------------------

    def left(self, budget: CompiledBudget, now_ms: int, partition: int, epoch: int) -> float:
        """What can be spent in a partition under an epoch; nothing before the ledger knows of both."""
        if self.open_epochs.get(partition) != epoch:
            return 0.0
        balance = self.balances.get(self.account(budget, now_ms)[1])
        return 0.0 if balance is None else max(0.0, balance.left)

    def take(
        self, budget: CompiledBudget, amount: float, now_ms: int, partition: int, offer: tuple[str, str], track: str
    ) -> Charge:
        """Spend on a decision being taken; `offer` is (decision id, offer)."""
        account = self.account(budget, now_ms)[1]
        self.balances[account].spend(amount)
        charge: Charge = [account, amount, now_ms + budget.hold_ms if budget.hold_ms else 0]
        self._batch.taken.append((partition, charge, offer, track))
        return charge

    def give_back(self, partition: int, charges: Iterable[Charge], now_ms: int, decision_id: str) -> list[Charge]:
        """What a superseded decision had taken; returns what of it comes back."""
        back = [charge for charge in charges if not charge[2] or now_ms < charge[2]]
        self._batch.returned += [(partition, charge) for charge in back]
        for key in [key for key in self._pending if key[0] == decision_id]:
            del self._pending[key]
        return back

    def unit_of(self, decision_id: str, offer: str) -> str | None:
        """By what the budget counts that waits for something to follow this serving; None where none does."""
        charge = self._pending.get((decision_id, offer))
        balance = self.balances.get(charge[0]) if charge is not None else None
        return balance.budget.unit if balance is not None else None

    def seen(self, decision_id: str, offer: str) -> None:
        """What was to follow a serving has followed: it is spent for good."""
        self._pending.pop((decision_id, offer), None)

    def keep(self, track: str) -> None:
        """A track goes to another shard, which will hear what follows: what was taken for it stays spent here."""
        for key in self._of_track.pop(track, ()):
            self._pending.pop(key, None)

    def seal(self) -> Spending:
        """What the batch that has been evaluated has spent; what follows belongs to the next one."""
        sealed, self._batch = self._batch, Spending()
        return sealed

    def committed(self, spending: Spending, failed: Mapping[int, KairosError]) -> None:
        """A batch is over; `failed` holds the partitions whose entries were not, or may not have been, written."""
        for partition, charge, offer, track in spending.taken:
            failure = failed.get(partition)
            if failure is None:
                if charge[2]:
                    self._pending[offer] = charge
                    self._of_track.setdefault(track, set()).add(offer)
                    heapq.heappush(self._expiring, (charge[2] + SLACK_MS, offer, track))
            elif failure.code in NOT_WRITTEN:
                self.balances[charge[0]].spend(-charge[1])
            else:
                self.in_doubt += charge[1]
        for partition, charge in spending.returned:
            if partition not in failed:
                # An account that only another shard has leased of can still be given back to here.
                balance = self.balances.get(charge[0])
                if balance is not None:
                    balance.spend(-charge[1])

    # -- between batches -------------------------------------------------------------------------------

    def expire(self, now_ms: int) -> int:
        """Let come back what was taken for impressions and redemptions that did not follow; how many that were."""
        n = 0
        while self._expiring and self._expiring[0][0] <= now_ms:
            _, offer, track = heapq.heappop(self._expiring)
            mine = self._of_track.get(track)
            if mine is not None:
                mine.discard(offer)
                if not mine:
                    del self._of_track[track]
            charge = self._pending.pop(offer, None)
            balance = self.balances.get(charge[0]) if charge is not None else None
            if charge is not None and balance is not None:
                balance.spend(-charge[1])
                n += 1
        return n

    @property
    def n_pending(self) -> int:
        """Servings of which it is not known yet what follows."""
        return len(self._pending)
