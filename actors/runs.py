"""Trainings asked for, under way and done, as documents in the store: whoever reaches the store can ask and look."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from actors.stores import Documents
from engine.errors import Conflict, NotFound
from training.recipes import Recipe, Target

log = logging.getLogger("kairos.trainer")

Run = dict[str, Any]
"""id, target, recipe (None: as seems best), why, state, attempt, asked_ms, started_ms, ended_ms, owner, stage, share,
reason and message, findings, candidate, champion, n_rows, cancel."""
Listing = list[Run]

PREFIX: Final = "run."
BOARD: Final = "training"
"""The document that gives numbers to runs, names those that are open, and holds who trains now: one at a time."""
STATE: Final = "trainer"
"""The document in which the trainer tells how it stands."""
QUEUED, RUNNING = "queued", "running"
OVER: Final = ("submitted", "published", "kept", "refused", "failed", "cancelled")
"""How a run ends: handed to the rollout, in force (churn), kept without a rollout to hand it to; or not."""
KEPT: Final = 100
ATTEMPTS: Final = 20


class Runs:
    """Verbs: ask, get, list, cancel for everybody; change, take, let_go for who trains."""

    def __init__(self, documents: Documents, clock: Callable[[], int]) -> None:
        self._documents, self._clock = documents, clock

    async def ask(self, why: str, recipe: Recipe | None = None, target: Target = "conversion") -> tuple[str, bool]:
        """Ask for a training; gives its id, and whether one of the target waited already and this joined it.

        One runs at a time and at most one of each target waits: who asks meanwhile is served by the one that waits,
        which reads everything that has come when it begins.
        """
        for _ in range(ATTEMPTS):
            rev, board = await self._board()
            waiting = [r for r in await self._of(board) if r["state"] == QUEUED and r["target"] == target]
            if waiting:
                changes = {"recipe": recipe} if recipe == "retrain" else {}
                if await self.change(waiting[0]["id"], QUEUED, **changes) is not None:
                    return str(waiting[0]["id"]), True
                continue
            number = int(board.get("n", 0)) + 1
            opened = {**board, "n": number, "open": [*board.get("open", []), f"t{number}"]}
            if not await self._documents.compare_and_set(BOARD, rev, opened):
                continue
            run: Run = {
                "id": f"t{number}", "target": target, "recipe": recipe, "why": why, "state": QUEUED, "attempt": 0,
                "asked_ms": self._clock(), "started_ms": None, "ended_ms": None, "owner": None, "stage": None,
                "share": 0.0, "reason": None, "message": None, "findings": [], "candidate": None, "champion": None,
                "n_rows": None, "cancel": False,
            }  # fmt: skip
            if await self._documents.compare_and_set(_name(run["id"]), 0, run):
                return str(run["id"]), False
        raise Conflict("training_conflict", "trainings are being asked for by others all the time; try again")

    async def get(self, run_id: str) -> Run:
        """A run as it stands. Raises NotFound `unknown_run`."""
        found = await self._documents.get(_name(run_id))
        if found is None:
            raise NotFound("unknown_run", f"no training {run_id}")
        return found[1]

    async def list(self) -> Listing:
        """Every run that is kept, the oldest first."""
        return sorted((run for _, _, run in await self._documents.list(PREFIX)), key=lambda run: int(run["id"][1:]))

    async def open(self) -> Listing:
        """Those that wait or are under way, the oldest first; unlike `list` it reads nothing else."""
        return await self._of((await self._board())[1])

    async def cancel(self, run_id: str) -> Run:
        """Ask a run to end: one that waits never begins, one under way ends within seconds; one that is over stays."""
        run = await self.get(run_id)
        if run["state"] == QUEUED:
            changed = await self.change(
                run_id,
                QUEUED,
                state="cancelled",
                reason="cancelled",
                message="it had not begun",
                ended_ms=self._clock(),
            )
            run = changed or await self.get(run_id)
        if run["state"] == RUNNING:
            run = await self.change(run_id, RUNNING, cancel=True) or await self.get(run_id)
        return run

    async def change(self, run_id: str, only: str | None = None, /, **fields: Any) -> Run | None:
        """Change fields of a run; None, and nothing changed, if its state is not `only` (None: whatever it is)."""
        for _ in range(ATTEMPTS):
            found = await self._documents.get(_name(run_id))
            if found is None or (only is not None and found[1]["state"] != only):
                return None
            if await self._documents.compare_and_set(_name(run_id), found[0], {**found[1], **fields}):
                if fields.get("state") in OVER:
                    await self._close(run_id)
                return {**found[1], **fields}
        raise Conflict("training_conflict", f"training {run_id} is being changed by others all the time; try again")

    async def take(self, owner: str, stale_ms: int) -> bool:
        """Take the one place to train in, or keep it; False while another owner trains and has told so lately."""
        rev, board = await self._board()
        now_ms, held = self._clock(), board.get("owner")
        if held not in (None, owner) and now_ms - int(board.get("beat_ms", 0)) < stale_ms:
            return False
        return await self._documents.compare_and_set(BOARD, rev, {**board, "owner": owner, "beat_ms": now_ms})

    async def let_go(self, owner: str) -> None:
        """Leave the place to others."""
        for _ in range(ATTEMPTS):
            rev, board = await self._board()
            if board.get("owner") != owner:
                return
            if await self._documents.compare_and_set(BOARD, rev, {**board, "owner": None}):
                return

    async def take_up(self, owner: str, stale_ms: int, attempts: int, *, mine: bool = False) -> None:
        """Let runs wait again whose trainer is dead: with `mine`, those of an earlier life of this owner, and always
        those of another that has given no sign for so long. One that has died in so many attempts is given up.
        """
        under_way = [run for run in await self.open() if run["state"] == RUNNING]
        if not under_way:
            return
        _, board = await self._board()
        silent = self._clock() - int(board.get("beat_ms", 0)) >= stale_ms
        for run in under_way:
            if not (mine if run["owner"] == owner else silent or board.get("owner") != run["owner"]):
                continue
            if run["attempt"] < attempts:
                log.warning("training %s was under way when its trainer died; it waits again", run["id"])
                await self.change(run["id"], RUNNING, state=QUEUED, owner=None, share=0.0, stage="again")
                continue
            words = f"the trainer died {run['attempt']} times in it; what is in force stays"
            ended = {"reason": "trainer_died", "message": words, "ended_ms": self._clock()}
            await self.change(run["id"], RUNNING, state="failed", **ended)

    async def forget_old(self) -> None:
        """Keep the newest runs; what is not over is never forgotten."""
        over = [run for run in await self.list() if run["state"] in OVER]
        for run in over[:-KEPT]:
            await self._documents.delete(_name(run["id"]))

    async def tell(self, state: Mapping[str, Any]) -> None:
        """Write down how the trainer stands, for status pages and metrics."""
        found = await self._documents.get(STATE)
        await self._documents.compare_and_set(STATE, found[0] if found else 0, state)

    async def told(self) -> dict[str, Any] | None:
        """How the trainer stands, as it last told; None where there never was one."""
        found = await self._documents.get(STATE)
        return found[1] if found else None

    async def _of(self, board: Mapping[str, Any]) -> Listing:
        found = [await self._documents.get(_name(run_id)) for run_id in board.get("open", [])]
        return [one[1] for one in found if one is not None and one[1]["state"] not in OVER]

    async def _close(self, run_id: str) -> None:
        for _ in range(ATTEMPTS):
            rev, board = await self._board()
            left = [one for one in board.get("open", []) if one != run_id]
            if await self._documents.compare_and_set(BOARD, rev, {**board, "open": left}):
                return

    async def _board(self) -> tuple[int, dict[str, Any]]:
        return await self._documents.get(BOARD) or (0, {})


def _name(run_id: str) -> str:
    return f"{PREFIX}{run_id}"
