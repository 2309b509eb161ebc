"""Settling what a life that is over has spent: from its last word in the ledger and the journals after it."""

from __future__ import annotations

import logging
from collections import Counter

import orjson

from actors.history import History
from actors.ledger import DIGITS, Ledger, Life
from actors.stores import Journal, Position
from engine.inputs import SUPPLY
from engine.record import DECISION, SUPERSEDED, Record
from engine.supply import CHARGES

log = logging.getLogger("kairos.shard")
CHUNK = 500


async def is_over(life: Life, journal: Journal) -> bool:
    """Whether nothing can be spent any more under a life's epochs: each of its partitions has a newer one."""
    for partition, epochs in life.epochs.items():
        last = await journal.last(partition)
        if last is None or last[0] <= max(epochs):
            return False
    return True


async def settle(name: str, ledger: Ledger, journal: Journal, history: History) -> dict[str, float] | None:
    """Close a life, count what it spent, give the rest back; None if it is not over after all.

    Whatever stops half-way is done again by whoever settles next, with the same result.
    """
    life = await ledger.close(name)
    if life is None:
        return None
    # Looked at again after the closing: an epoch that was added meanwhile must be over too.
    if not await is_over(life, journal):
        return None
    spent = await spent_by(life, history)
    for account, held in (await ledger.accounts()).items():
        if name in held.grants:
            # Never more than was granted: what a journal says twice, or in doubt, costs nobody else anything.
            await ledger.settle(account, name, min(held.grants[name], spent.get(account, 0.0)))
    await ledger.forget(name)
    return spent


async def spent_by(life: Life, history: History) -> dict[str, float]:
    """What a life spent by account: what it said last, and what the journals say after that."""
    spent: Counter[str] = Counter(life.spent)
    for partition, epochs in life.epochs.items():
        after: Position | None = life.at.get(partition, (min(epochs), 0))
        while rows := await history.read(partition, after, CHUNK):
            for (epoch, _), payload in rows:
                if epoch in epochs:
                    for record in orjson.loads(payload)[1:]:
                        _count(record, spent)
            after = rows[-1][0]
            if after[0] > max(epochs):
                break
    return {account: round(amount, DIGITS) for account, amount in spent.items()}


def _count(record: Record | None, spent: Counter[str]) -> None:
    if record is None:
        return
    if record[0] == DECISION and len(record[7]) > SUPPLY and record[7][SUPPLY] is not None:
        for account, amount, _ in record[7][SUPPLY][CHARGES]:
            spent[account] += amount
    elif record[0] == SUPERSEDED and len(record) > 4:
        for account, amount, _ in record[4]:
            spent[account] -= amount
