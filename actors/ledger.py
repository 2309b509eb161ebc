"""The ledger of budgets in the store: who has leased how much of which account, and what earlier lives have spent.

An account is one offer's budget in one period. A *life* is one run of one shard; it leases amounts ahead and spends
them by itself. What an account has given out never exceeds its limit, since every change of it is a compare-and-set:

    settled (spent by lives that are over) + the grants of all lives ≤ limit

and a life never spends more than its grant. So over-spend is nothing, whatever stops whenever; what a life had leased
and not spent comes back when its record is closed and settled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from actors.stores import Documents, Position
from engine.errors import Conflict

ATTEMPTS: Final = 50
ACCOUNT, LIFE = "budget/account/", "budget/life/"
DIGITS: Final = 6
"""Amounts are kept to a millionth, so that what is added and taken away again leaves nothing."""


@dataclass(slots=True)
class Account:
    """What of one budget is gone, by life, and when its period ends (None: never)."""

    settled: float = 0.0
    grants: dict[str, float] = field(default_factory=dict)
    until_ms: int | None = None

    @property
    def given(self) -> float:
        """All that has been given out."""
        return round(self.settled + sum(self.grants.values()), DIGITS)


@dataclass(slots=True)
class Life:
    """A run of a shard as the store knows it.

    `epochs` are those under which it may have spent, by partition; `at` is up to where in each journal `spent` (by
    account) counts. What stands in the journals after that, under these epochs, is to be added.
    """

    epochs: dict[int, list[int]] = field(default_factory=dict)
    at: dict[int, Position] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    closed: bool = False


class Ledger:
    """Verbs: grant (lease or give back), write and close (a life), settle, forget."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    # -- accounts --------------------------------------------------------------------------------------

    async def account(self, name: str) -> Account:
        """An account as it stands; an empty one where nothing was ever leased."""
        found = await self._documents.get(ACCOUNT + name)
        return _account(found[1]) if found else Account()

    async def accounts(self) -> dict[str, Account]:
        """Every account that is kept."""
        listed = await self._documents.list(ACCOUNT)
        return {name.removeprefix(ACCOUNT): _account(document) for name, _, document in listed}

    async def grant(
        self, name: str, life: str, wanted: float, limit: float, until_ms: int | None, *, quantum: float = 1.0
    ) -> float:
        """Set the grant of a life to `wanted` in all, or as near to it as the limit lets; returns the grant.

        Asking for less than it has gives the difference back: the caller must not have spent it, nor spend it now.
        What is leased is a multiple of `quantum` (0: any amount). The same call again changes nothing.
        """
        granted = 0.0

        def change(account: Account) -> bool:
            nonlocal granted
            held = account.grants.get(life, 0.0)
            room = limit - (account.given - held)
            most = min(wanted, math.floor(room / quantum + 1e-9) * quantum if quantum else room)
            # What it holds already is never cut, though the limit has been lowered: it may have been spent.
            granted = round(wanted if wanted <= held else max(held, most), DIGITS)
            account.until_ms = until_ms
            account.grants[life] = granted
            return granted != held

        await self._change(name, change)
        return granted

    async def settle(self, name: str, life: str, spent: float) -> None:
        """Close the grant of a life: `spent` of it is gone, the rest is there again. Once only."""

        def change(account: Account) -> bool:
            if life not in account.grants:
                return False
            del account.grants[life]
            account.settled = round(account.settled + spent, DIGITS)
            return True

        await self._change(name, change)

    async def _change(self, name: str, change: Callable[[Account], bool]) -> None:
        for _ in range(ATTEMPTS):
            found = await self._documents.get(ACCOUNT + name)
            rev, account = (found[0], _account(found[1])) if found else (0, Account())
            if not change(account):
                return
            document = {"settled": account.settled, "grants": account.grants, "until_ms": account.until_ms}
            if await self._documents.compare_and_set(ACCOUNT + name, rev, document):
                return
        raise Conflict("ledger_busy", f"the account {name} is being changed by others all the time")

    async def drop(self, name: str) -> None:
        """Forget an account whose period is long over."""
        await self._documents.delete(ACCOUNT + name)

    # -- lives -----------------------------------------------------------------------------------------

    async def write(self, life: str, state: Life) -> bool:
        """Keep what a life says of itself; False once it has been closed: it must go on under another name."""
        for _ in range(ATTEMPTS):
            found = await self._documents.get(LIFE + life)
            if found is not None and found[1]["closed"]:
                return False
            if await self._documents.compare_and_set(LIFE + life, found[0] if found else 0, _document(state)):
                return True
        raise Conflict("ledger_busy", f"the life {life} is being changed by others all the time")

    async def lives(self) -> dict[str, Life]:
        """Every life that has not been settled."""
        return {name.removeprefix(LIFE): _life(document) for name, _, document in await self._documents.list(LIFE)}

    async def close(self, life: str) -> Life | None:
        """End a life: from now on it can say nothing more. What it said last; None where there is none."""
        for _ in range(ATTEMPTS):
            found = await self._documents.get(LIFE + life)
            if found is None:
                return None
            state = _life(found[1])
            if state.closed:
                return state
            state.closed = True
            if await self._documents.compare_and_set(LIFE + life, found[0], _document(state)):
                return state
        raise Conflict("ledger_busy", f"the life {life} is being changed by others all the time")

    async def forget(self, life: str) -> None:
        """Forget a life that has been settled."""
        await self._documents.delete(LIFE + life)


def _account(document: Mapping[str, Any]) -> Account:
    return Account(document["settled"], dict(document["grants"]), document["until_ms"])


def _document(state: Life) -> dict[str, Any]:
    return {
        "epochs": {str(p): epochs for p, epochs in state.epochs.items()},
        "at": {str(p): list(at) for p, at in state.at.items()},
        "spent": state.spent,
        "closed": state.closed,
    }


def _life(document: Mapping[str, Any]) -> Life:
    return Life(
        {int(p): list(epochs) for p, epochs in document["epochs"].items()},
        {int(p): (at[0], at[1]) for p, at in document["at"].items()},
        dict(document["spent"]),
        document["closed"],
    )
