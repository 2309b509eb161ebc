"""The evidence of the running rollout in the store: whole, under a new name each time, the one before it forgotten."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, Final

import orjson

from actors.stores import Versions
from training.rollout_plan import Plan
from training.rollout_users import Users

EVIDENCE: Final = "rollout-evidence"
USERS_A_SECOND: Final = 20_000
"""So many more users make the saves a second rarer: each writes all of them."""


class EvidenceStore:
    """Verbs: load, save, tidy. `source` is where the reading of examples stood at the last save, or load."""

    def __init__(self, versions: Versions, clock: Callable[[], int]) -> None:
        self._versions, self._clock = versions, clock
        self._saved_ms = 0
        self._n = 0
        self.source = b""

    async def load(self, rollout_id: str, plan: Plan) -> Users | None:
        """The newest evidence of a rollout."""
        names = [name for name, meta in await self._versions.list(EVIDENCE) if meta["rollout"] == rollout_id]
        if not names:
            return None
        newest = max(names)
        found = await self._versions.get(EVIDENCE, newest)
        if found is None:
            return None
        held: dict[str, Any] = orjson.loads(found[1])
        self._n = int(newest.partition("-")[2])
        self.source = b64decode(held["source"])
        return Users.restore(held["users"], plan)

    async def save(self, users: Users, source: bytes, every_s: float, *, force: bool) -> bool:
        """Keep the evidence, if the last time was long enough ago."""
        now_ms = self._clock()
        wait_s = max(every_s, len(users) / USERS_A_SECOND)
        if not force and now_ms - self._saved_ms < wait_s * 1000:
            return False
        self._saved_ms, self._n, self.source = now_ms, self._n + 1, source
        blob = orjson.dumps({"users": users.snapshot(), "source": b64encode(source).decode()})
        name = _name(users.rollout_id, self._n)
        await self._versions.put(EVIDENCE, name, {"rollout": users.rollout_id, "created_ms": now_ms}, blob)
        await self._forget(users.rollout_id, name)
        return True

    async def tidy(self, running: str | None) -> None:
        """Forget the evidence of all other rollouts: what it came to is in the audit log."""
        for name, meta in await self._versions.list(EVIDENCE):
            if meta["rollout"] != running:
                await self._versions.delete(EVIDENCE, name)

    async def _forget(self, rollout_id: str, but: str) -> None:
        for name, meta in await self._versions.list(EVIDENCE):
            if meta["rollout"] == rollout_id and name != but:
                await self._versions.delete(EVIDENCE, name)


def _name(rollout_id: str, n: int) -> str:
    return f"{rollout_id}-{n:08d}"
