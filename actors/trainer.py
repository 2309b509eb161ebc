"""The trainer: learns from matured examples, puts candidates before the gates, hands on those that pass.

Nothing here reaches a visitor: a candidate goes to the rollout, and whatever goes wrong leaves the champion in force.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import numpy as np
import psutil

from actors.ending import ended
from actors.lessons import Columns, Hearing, Session
from actors.runs import OVER, QUEUED, RUNNING, Run, Runs
from actors.trainer_settings import TrainerSettings
from engine.errors import Conflict, InvalidInput, KairosError
from engine.schema import N_FEATURES
from training.due import Standing, due
from training.example import Example
from training.learner import Champion
from training.recipes import Recipe, Target
from training.watching import ChampionWatch

log = logging.getLogger("kairos.trainer")

BEAT_S: Final = 1.0
NO_ROWS: Final = np.empty((0, N_FEATURES))


class Source(Protocol):
    """Where examples come from (`actors.learning` over the journal)."""

    async def advance(self) -> Sequence[Example]:
        """Read what the journal has gained; gives the examples that it told something of."""
        ...

    @property
    def n_rows(self) -> int:
        """How many matured rows there are to learn from."""
        ...

    def columns(self, limit: int) -> Columns:
        """The newest matured rows, at most `limit`."""
        ...


class Trainer:
    """Verbs: start, ask, status, cancel, stop; `step` is one turn of its loop, for whoever turns it by hand."""

    def __init__(
        self,
        source: Source,
        session: Session,
        runs: Runs,
        clock: Callable[[], int],
        settings: TrainerSettings | None = None,
        owner: str = "trainer",
        archive: str | None = None,
    ) -> None:
        self._source, self._session, self._runs, self._archive = source, session, runs, archive
        self._clock, self._settings, self._owner = clock, settings or TrainerSettings(), owner
        self._watch = ChampionWatch()
        # Rows that have matured since the last look, and since features were last compared.
        self._n_new = self._n_uncompared = self._n_rows = 0
        self._watching = False
        self._run: str | None = None
        self._champion: str | None = None
        self._last_look_ms = self._last_retrain_ms = self._last_churn_ms = 0
        self._resumed = False
        self._work: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._hearing: Hearing | None = None
        self._counts: dict[str, int] = {}
        self._alarms = 0

    def start(self) -> None:
        """Begin to live; what a killed trainer had under way is taken up again."""
        self._work = asyncio.create_task(self._live())

    async def ask(self, why: str = "request", recipe: Recipe | None = None, target: Target = "conversion") -> str:
        """Ask for a training and give its id; one of the target that waits already is joined."""
        run_id, _ = await self._runs.ask(why, recipe, target)
        self._wake.set()
        return run_id

    async def status(self, run_id: str) -> Run:
        """A run as it stands. Raises NotFound `unknown_run`."""
        return await self._runs.get(run_id)

    async def cancel(self, run_id: str) -> Run:
        """End a run; one that is over stays as it is."""
        return await self._runs.cancel(run_id)

    async def stop(self) -> None:
        """Stop; a run under way is left for the next start."""
        if self._hearing is not None:
            self._hearing.end("stopped")
        await ended(self._work)
        await self._runs.let_go(self._owner)

    async def _live(self) -> None:
        loop, read_at_s = asyncio.get_running_loop(), 0.0
        while True:
            now_s = loop.time()
            reads = now_s >= read_at_s
            if reads:
                read_at_s = now_s + self._settings.read_ms / 1000
            try:
                await self.step(reads=reads)
            except KairosError as failure:
                # The store comes back some time.
                log.warning("trainer: %s", failure.message)
            except Exception:
                log.exception("trainer: a turn failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._settings.tick_ms / 1000)
            self._wake.clear()

    async def step(self, *, reads: bool = True) -> Run | None:
        """Read what has come, ask for what is due, do what was asked for; gives the run that was done, if one was.

        Without `reads` the journal is read only where a run waits for it.
        """
        told = await self._source.advance() if reads or await self._waiting() else ()
        fresh = sorted((one for one in told if one.matured and not one.withdrawn), key=lambda one: one.t_ms)
        self._n_new += len(fresh)
        self._n_uncompared += len(fresh)
        if told or not self._resumed:
            # Counting reads the whole window.
            self._n_rows = await asyncio.to_thread(lambda: self._source.n_rows)
        if not self._resumed:
            await self._resume()
        champion = await self._watched(fresh)
        self._champion = champion.version if champion is not None else None
        await self._ask_for_what_is_due(champion)
        await self._runs.take_up(self._owner, self._settings.stale_ms, self._settings.attempts)
        waiting = await self._waiting()
        done = await self.perform(waiting[0]) if waiting else None
        await self._tell()
        return done

    async def _waiting(self) -> list[Run]:
        return [run for run in await self._runs.open() if run["state"] == QUEUED]

    # -- what is due -----------------------------------------------------------------------------------

    async def _watched(self, fresh: Sequence[Example]) -> Champion | None:
        """The champion, after the watch has seen what is new; None where it cannot be loaded."""
        try:
            champion = await self._session.champion("conversion")
        except InvalidInput as failure:
            log.error("the model in force cannot be read: %s", failure.message)
            return None
        if champion.model is not None:
            await asyncio.to_thread(self._observe, champion, fresh)
        return champion

    def _observe(self, champion: Champion, fresh: Sequence[Example]) -> None:
        begins, compares = not self._watching, self._n_uncompared >= self._settings.cadence.labels
        if not begins:
            self._watch.answer_by(champion, NO_ROWS, NO_ROWS[:, 0])
            self._watch.observe(np.array([one.row for one in fresh]), np.array([float(one.label) for one in fresh]))
        if begins or compares:
            rows = self._source.columns(self._settings.most_rows)
            unseen = rows.t_ms > champion.seen_until_ms
            if begins:
                self._watch.answer_by(champion, rows.x[unseen], rows.y[unseen])
            self._watch.compare(rows.x[~unseen], rows.x[unseen])
            self._watching, self._n_uncompared = True, 0

    async def _ask_for_what_is_due(self, champion: Champion | None) -> None:
        now_ms, settings = self._clock(), self._settings
        if champion is None:
            return
        standing = Standing(
            self._n_rows, self._n_new, champion.model is not None,
            self._last_look_ms, self._last_retrain_ms, self._watch.alarmed,
        )  # fmt: skip
        wish = due(settings.cadence, standing, now_ms, await self._session.zone())
        if wish is not None:
            await self._runs.ask(wish.why, wish.recipe)
        if settings.churn and now_ms - self._last_churn_ms >= settings.cadence.churn_every_ms and self._n_rows:
            self._last_churn_ms = now_ms
            if champion.model is not None:
                await self._runs.ask("schedule", "retrain", "churn")

    async def _resume(self) -> None:
        """Take up what was under way when the last trainer died, and learn from the runs when it last looked."""
        self._resumed = True
        await self._runs.take_up(self._owner, self._settings.stale_ms, self._settings.attempts, mine=True)
        for run in await self._runs.list():
            if run["state"] in OVER:
                self._note(run, int(run["ended_ms"] or 0))
        champion = None
        with suppress(KairosError):
            champion = await self._session.champion("conversion")
        self._n_new = self._n_rows
        if champion is not None and champion.model is not None:
            card = champion.model.card
            self._last_retrain_ms = max(self._last_retrain_ms, card.created_ms if card.recipe != "refit" else 0)
            rows = await asyncio.to_thread(self._source.columns, self._settings.most_rows)
            self._n_new = int((rows.t_ms > champion.seen_until_ms).sum())

    def _note(self, run: Run, at_ms: int) -> None:
        self._counts[run["state"]] = self._counts.get(run["state"], 0) + 1
        if run["started_ms"] is None:
            return
        if run["target"] == "churn":
            self._last_churn_ms = max(self._last_churn_ms, at_ms)
            return
        self._last_look_ms = max(self._last_look_ms, at_ms)
        if run["recipe"] == "retrain":
            self._last_retrain_ms = max(self._last_retrain_ms, at_ms)

    # -- a run -----------------------------------------------------------------------------------------

    async def perform(self, run: Run) -> Run | None:
        """Do one run to its end, whatever that is; None where another trains, or it is no longer waiting."""
        if not await self._runs.take(self._owner, self._settings.stale_ms):
            return None
        begun = await self._runs.change(
            run["id"], QUEUED, state=RUNNING, owner=self._owner, attempt=run["attempt"] + 1,
            started_ms=self._clock(), stage="reading", share=0.0,
        )  # fmt: skip
        if begun is None:
            await self._runs.let_go(self._owner)
            return None
        alarms = self._watch.take() if run["target"] == "conversion" else ()
        self._alarms += len(alarms)
        hearing, self._run = Hearing(), str(run["id"])
        self._hearing = hearing
        beat = asyncio.create_task(self._beat(run["id"], hearing))
        try:
            outcome = await self._outcome(begun, hearing)
        except asyncio.CancelledError:
            with suppress(KairosError):
                await self._runs.change(run["id"], RUNNING, state=QUEUED, owner=None, attempt=run["attempt"])
            raise
        finally:
            await ended(beat)
            self._hearing = self._run = None
        ended_ms = self._clock()
        told = [f"{alarm.cause}: {alarm.sentence}" for alarm in alarms]
        done = await self._runs.change(run["id"], RUNNING, **outcome, ended_ms=ended_ms, alarms=told)
        await self._runs.let_go(self._owner)
        await self._runs.forget_old()
        if done is not None:
            self._note(done, ended_ms)
            if done["target"] == "conversion":
                self._n_new = 0
            say = log.info if done["reason"] is None else log.warning
            say("training %s: %s %s", done["id"], done["state"], done["message"] or done["candidate"] or "")
        return done

    async def _outcome(self, run: Run, hearing: Hearing) -> dict[str, Any]:
        """The fields with which a run ends."""
        try:
            rows = await asyncio.to_thread(self._source.columns, self._settings.most_rows)
            fields = await self._session.train(run, rows, self._settings, hearing)
        except (InvalidInput, Conflict) as refusal:
            fields = {"state": "refused", "reason": refusal.code, "message": refusal.message}
        except KairosError as failure:
            fields = {"state": "failed", "reason": failure.code, "message": failure.message}
        except MemoryError:
            words = "memory ran out; lower training.window_rows or training.memory_mb"
            fields = {"state": "failed", "reason": "out_of_memory", "message": words}
        except Exception as error:
            if hearing.why is None:
                log.exception("training %s failed", run["id"])
            words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            fields = {"state": "failed", "reason": "internal", "message": words}
        if hearing.why == "cancelled":
            return {"state": "cancelled", "reason": "cancelled", "message": "it was cancelled; what is in force stays"}
        return {"stage": None, "share": 1.0, **fields}

    async def _beat(self, run_id: str, hearing: Hearing) -> None:
        """Tell how far it is, keep the place, and hear whether it is to end."""
        while True:
            await asyncio.sleep(BEAT_S)
            with suppress(KairosError):
                await self._runs.take(self._owner, self._settings.stale_ms)
                run = await self._runs.change(run_id, RUNNING, stage=hearing.stage, share=round(hearing.share, 3))
                if run is not None and run["cancel"]:
                    hearing.end("cancelled")
                await self._tell()

    async def _tell(self) -> None:
        state = {
            "pid": os.getpid(), "rss_bytes": psutil.Process().memory_info().rss, "owner": self._owner,
            "beat_ms": self._clock(), "run": self._run, "rows": self._n_rows, "new_rows": self._n_new,
            "champion": self._champion, "drift": self._watch.alarmed, "alarms": self._alarms, "runs": self._counts,
            "last_look_ms": self._last_look_ms, "last_retrain_ms": self._last_retrain_ms,
            "settings": self._settings.shared(), "archive": self._archive,
        }  # fmt: skip
        await self._runs.tell(state)
