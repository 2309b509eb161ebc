"""The background of a shard's budgets: registers the life, refills, says what is spent, settles those that are over."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from actors.desk import Desk, budgets_of
from actors.leases import Balance, Leases
from actors.ledger import Ledger, Life
from actors.settling import is_over, settle
from actors.stores import Position
from engine.errors import KairosError
from engine.periods import Period
from engine.terms import CompiledBudget

if TYPE_CHECKING:
    from actors.shard import SessionShard

log = logging.getLogger("kairos.shard")

EARLY_MS: Final = 5_000
"""How long before a period begins its first lease is taken."""
ROUNDS_DRY: Final = 4
"""Rounds that are waited before an account that had nothing left is asked again."""
KEPT_MS: Final = 10 * 60_000
"""How long accounts are kept after their period, and how often those to be forgotten are looked for."""
SWEEP_MS: Final = 10 * 60_000


class Treasury:
    """Keeps one shard's leases. Verbs: run (for as long as the shard lives), round, look_around, close."""

    def __init__(self, shard: SessionShard, ledger: Ledger | None) -> None:
        self._shard = shard
        self._ledger = ledger
        self.desk = Desk(Leases())
        self.settled: list[str] = []
        self._generation = 0
        self._told: Life | None = None
        self._noted: tuple[dict[int, Position], dict[str, float]] | None = None
        self._noted_ms = 0.0
        self._told_ms = 0.0
        self._looked_ms = self._swept_ms = 0.0
        self._over: set[str] = set()

    @property
    def life(self) -> str:
        """The name of this life in the ledger."""
        return f"{self._shard.index}.{self._shard.incarnation}.{self._generation}"

    @property
    def leases(self) -> Leases:
        """The balances of this life."""
        return self.desk.leases

    @property
    def ledger(self) -> Ledger:
        """The ledger in the store."""
        assert self._ledger is not None
        return self._ledger

    def counts(self) -> dict[str, int]:
        """In whole units: leased and not spent, waiting for something to follow, spent and perhaps not on record."""
        leases = self.leases
        left = sum(max(0.0, balance.left) for balance in leases.balances.values())
        return {
            "budget_leased": round(left), "budget_pending": leases.n_pending, "budget_in_doubt": round(leases.in_doubt),
            "budget_lives_settled": len(self.settled),
        }  # fmt: skip

    async def run(self) -> None:
        """Work in rounds; the store's absence costs nothing but the budgets that run dry."""
        waiting = False
        while self._ledger is not None:
            try:
                await self.round()
                await self.look_around()
                waiting = False
            except KairosError as failure:
                if not waiting:
                    log.warning("the budgets of shard %d wait: %s", self._shard.index, failure.message)
                waiting = True
            except Exception:
                log.exception("the budgets of shard %d wait", self._shard.index)
            await asyncio.sleep(self._shard.settings.lease_every_ms / 1000.0)

    async def round(self) -> None:
        """Register, refill, tell, and let come back what did not follow."""
        budgets = self._budgets()
        now_ms = self._shard.clock()
        self.leases.expire(now_ms)
        if not budgets and self._told is None:
            return
        if not await self._register():
            return
        for budget in budgets:
            period = budget.period(now_ms)
            await self._refill(budget, period, now_ms)
            if period.end_ms - now_ms < EARLY_MS:
                await self._refill(budget, budget.period(int(period.end_ms)), now_ms)
        self._tidy(now_ms)

    def _budgets(self) -> list[CompiledBudget]:
        world = self._shard.worlds.current
        if world is None:
            return []
        return list(budgets_of(world).values())

    # -- this life -------------------------------------------------------------------------------------

    async def _register(self) -> bool:
        """See that the ledger knows the epochs of this shard's partitions, and now and then what is spent."""
        ready = {p.index: p.epoch for p in self._shard.partitions.values() if p.ready}
        known = self.leases.open_epochs
        due = _turn_ms() - self._told_ms >= self._shard.settings.account_every_ms
        if all(known.get(p) == epoch for p, epoch in ready.items()) and not due:
            return True
        state = self._state(ready)
        if not await self.ledger.write(self.life, state):
            # Somebody has taken this life for dead. What it held is being settled; it goes on as another.
            log.warning("shard %d was taken for dead; its budgets begin anew", self._shard.index)
            self._generation += 1
            self._told, self._noted = None, None
            self.desk.leases = Leases(in_doubt=self.leases.in_doubt)
            return False
        self._told, self._told_ms = state, _turn_ms()
        self.leases.open_epochs.update(ready)
        return True

    def note(self) -> None:
        """Between batches, where they agree: up to where the journals are written, and what is spent by then."""
        now_ms = _turn_ms()
        if self._told is None or now_ms - self._noted_ms < self._shard.settings.account_every_ms:
            return
        self._noted_ms = now_ms
        ready = (p for p in self._shard.partitions.values() if p.ready)
        spent = {account: b.spent for account, b in self.leases.balances.items() if b.spent}
        self._noted = {p.index: p.position for p in ready}, spent

    def _state(self, ready: dict[int, int]) -> Life:
        """What to say: the epochs of now, and what is spent as of the last note."""
        told = self._told or Life()
        state = Life({p: list(e) for p, e in told.epochs.items()}, dict(told.at), dict(told.spent))
        for index, epoch in ready.items():
            epochs = state.epochs.setdefault(index, [])
            if not epochs or epochs[-1] != epoch:
                epochs.append(epoch)
        if self._noted is not None:
            at, state.spent = self._noted
            state.at.update(at)
        for index, (epoch, _) in state.at.items():
            # What was spent under earlier epochs is in the note.
            state.epochs[index] = [e for e in state.epochs.get(index, ()) if e >= epoch] or [epoch]
        return state

    async def _refill(self, budget: CompiledBudget, period: Period, now_ms: int) -> None:
        account = budget.account(period)
        balance = self.leases.balances.get(account)
        if balance is None:
            balance = Balance(budget, period)
        balance.budget = budget
        balance.rate, balance.used = 0.7 * balance.rate + 0.3 * balance.used, 0.0
        target = balance.target(self._n_shards())
        enough = max(target / 2, budget.quantum)
        if enough <= balance.left <= 3 * target or _turn_ms() < balance.ask_again_ms:
            return
        if balance.left > target:
            # First out of reach here, then given back: nobody spends it in between.
            balance.granted = wanted = balance.spent + target
        else:
            wanted = balance.spent + target
        until = None if budget.per_ms is None else int(period.end_ms)
        limit = budget.limit(now_ms, period)
        balance.granted = await self.ledger.grant(account, self.life, wanted, limit, until, quantum=budget.quantum)
        self.leases.balances[account] = balance
        if balance.left < enough:
            # There is nothing to be had now; others may give back, or its pace let more out.
            balance.ask_again_ms = _turn_ms() + ROUNDS_DRY * self._shard.settings.lease_every_ms

    def _n_shards(self) -> int:
        return max(1, round(self._shard.n_partitions / max(1, len(self._shard.partitions))))

    def _tidy(self, now_ms: int) -> None:
        over = [a for a, b in self.leases.balances.items() if b.period.end_ms + KEPT_MS < now_ms]
        for account in over:
            del self.leases.balances[account]

    async def close(self) -> None:
        """Give back everything that is not spent; the shard is stopping and decides nothing more."""
        if self._told is None:
            return
        try:
            for account, balance in self.leases.balances.items():
                await self.ledger.settle(account, self.life, balance.spent)
            await self.ledger.forget(self.life)
            self._told = None
        except KairosError as failure:
            # Whoever looks around next settles it from the journals.
            log.warning("the budgets of shard %d were not given back: %s", self._shard.index, failure.message)

    # -- other lives -----------------------------------------------------------------------------------

    async def look_around(self) -> None:
        """Settle the lives that are over; one must look so twice, since a living one may just be claiming anew."""
        if _turn_ms() - self._looked_ms < self._shard.settings.settle_every_ms:
            return
        self._looked_ms = _turn_ms()
        if self._told is None and not self._budgets():
            return
        lives = await self.ledger.lives()
        over = {name for name, life in lives.items() if name != self.life and await is_over(life, self._shard.journal)}
        for name in sorted(over & self._over):
            if await settle(name, self.ledger, self._shard.journal, self._shard.history) is not None:
                self.settled.append(name)
                log.info("the budgets leased by life %s are settled", name)
        self._over = over
        if _turn_ms() - self._swept_ms >= SWEEP_MS:
            self._swept_ms = _turn_ms()
            await self._sweep(self._shard.clock())

    async def _sweep(self, now_ms: int) -> None:
        """Forget the accounts of periods that are over; the log says how much of each was given out."""
        for name, account in (await self.ledger.accounts()).items():
            if account.until_ms is not None and account.until_ms + KEPT_MS < now_ms:
                log.info("budget %s ended with %g given out", name, account.given)
                await self.ledger.drop(name)


def _turn_ms() -> float:
    """The loop's own time: how often something is done has nothing to do with what time it is."""
    return asyncio.get_running_loop().time() * 1000.0
