"""The supervisor: owns the table partition → shard, and changes it by compare-and-set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from actors.stores import NOBODY, Table, TableState
from engine.errors import Conflict

ATTEMPTS: Final = 20


def balanced(owners: Sequence[int], n_shards: int) -> tuple[int, ...]:
    """Owners for `n_shards`, as even as can be, moving as few partitions as that takes.

    >>> balanced((-1, -1, -1, -1), 2)
    (0, 1, 0, 1)
    >>> balanced((0, 1, 0, 1), 1)
    (0, 0, 0, 0)
    """
    n = len(owners)
    held: Counter[int] = Counter()
    room = {shard: n // n_shards + (1 if shard < n % n_shards else 0) for shard in range(n_shards)}
    kept: list[int] = []
    for owner in owners:
        keep = owner in room and held[owner] < room[owner]
        kept.append(owner if keep else NOBODY)
        if keep:
            held[owner] += 1
    for index, owner in enumerate(kept):
        if owner == NOBODY:
            emptiest = min(room, key=lambda shard: (held[shard] - room[shard], shard))
            kept[index] = emptiest
            held[emptiest] += 1
    return tuple(kept)


class Supervisor:
    """Gives every partition to one of `n_shards` shards; a change takes effect when the shards read the table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def assign(self, n_partitions: int, n_shards: int) -> TableState:
        """Create the table if there is none, balance it over the shards, return it.

        Raises:
            engine.errors.InvalidInput: `partitions_fixed`, the data set has another number of partitions.
        """
        await self._table.create(n_partitions)
        for _ in range(ATTEMPTS):
            state = await self._table.read()
            owners = balanced(state.owners, n_shards)
            if owners == state.owners:
                return state
            epoch = await self._table.next_epoch()
            epochs = tuple(
                epoch if new != old else held for new, old, held in zip(owners, state.owners, state.epochs, strict=True)
            )
            if await self._table.compare_and_set(state.version, replace(state, owners=owners, epochs=epochs)):
                return await self._table.read()
        raise Conflict("table_conflict", "the partition table is being changed by others all the time; try again")
