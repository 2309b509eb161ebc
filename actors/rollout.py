"""Rollouts: candidates in, evidence from examples, the world pointer out; every step survives a kill in the store.

The board (`actors.rollout_log`) says what is to be, the world pointer what is: whoever changes the board, or starts
after a kill, aligns the pointer with it. The verbs of people work from any process, also while nobody looks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from actors.rollout_alignment import Alignment, MovesWorld, champion_of
from actors.rollout_log import RolloutLog
from actors.stores import Stores
from engine.errors import Conflict, InvalidInput, NotFound
from engine.prior import PriorModel
from training.attribution import GRACE_MS
from training.example import Example
from training.rollout import ENGINE, Event, Rollout, Step, look, pause, promote, resume, roll_back
from training.rollout_board import Board, Change, start_waiting, submit, taken
from training.rollout_expected import Traffic, expected
from training.rollout_plan import KINDS, Kind, Plan
from training.rollout_users import Users

log = logging.getLogger("kairos.rollout")

LIVE_DOCUMENT: Final = "rollout-live"
POLICY: Final = (
    "one rollout at a time; a newer candidate waits until it has ended, and the newest supersedes whichever waits"
)
N_TRAFFIC: Final = 5000
"""Matured examples from which the traffic is estimated."""
DAY_MS: Final = 86_400_000
ASK_EVERY_MS: Final = 10_000
NO_ROW: Final = np.zeros(0)
Verb = Callable[[Rollout, str, str, int, dict[str, Any]], Step]


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How rollouts go here: the plan, and how often the evidence is looked at and saved, in seconds."""

    plan: Plan = field(default_factory=Plan)
    look_every_s: float = 0.5
    save_every_s: float = 20.0
    grace_ms: int = GRACE_MS
    """What is waited beyond a conversion's window, as the trainer does."""


class Rollouts:
    """Verbs: submit, look, promote, roll_back, pause, resume, status.

    It subscribes to `actors.learning`: what it holds is saved together with how far the journal was read, so that a
    kill loses no user and counts none twice.
    """

    name: Final = "rollouts"

    def __init__(
        self, stores: Stores, world: MovesWorld, clock: Callable[[], int], settings: RolloutSettings | None = None
    ) -> None:
        assert stores.documents is not None
        self._versions, self._documents = stores.versions, stores.documents
        self._clock = clock
        self._alignment = Alignment(stores.versions, world)
        self.settings = settings or RolloutSettings()
        self._log = RolloutLog(stores.documents, stores.versions)
        self._users: Users | None = None
        self._pending: list[Example] = []
        self._recent: deque[tuple[int, str, int]] = deque(maxlen=N_TRAFFIC)
        self._counts: Callable[[str], bool] = lambda _track: True
        self._counted_share = 1.0
        self._told_ms = 0
        self._asked: tuple[tuple[str, int], int] = ("", 0), 0
        self._looking = asyncio.Lock()

    # -- by people, and by the trainer -----------------------------------------------------------------

    async def submit(self, kind: Kind, version: str, why: str, by: str = ENGINE, plan: Plan | None = None) -> Rollout:
        """A candidate that has passed its gates; it starts at once where nothing is under way, else it waits.

        Raises:
            engine.errors.InvalidInput: `bad_kind`, `not_servable`, `gates_refused`. NotFound: `unknown_version`.
            Conflict: `already_champion`, `already_submitted`.
        """
        await self._check_kept(kind, version)
        champion = await self._champions()
        if champion(kind) == version:
            raise Conflict("already_champion", f"{kind} {version} is in force already")
        plan, now_ms = plan or self.settings.plan, self._clock()
        numbers = {"expected": expected(plan, await self.traffic()).to_dict()}

        def make(board: Board) -> Change:
            after, events = submit(board, kind, version, plan, why, by, now_ms, numbers)
            started = start_waiting(after, champion, now_ms, numbers)
            return (after, events) if started is None else (started[0], [*events, *started[1]])

        board, events = await self._log.change(make)
        await self._alignment.align(board)
        return (await self._log.board()).find(events[0].rollout)

    async def _check_kept(self, kind: str, version: str) -> None:
        if kind not in KINDS:
            raise InvalidInput("bad_kind", f"kind: found {kind!r}, expected one of {', '.join(KINDS)}")
        if kind == "model" and version == PriorModel.version:
            return
        found = await self._versions.get(kind, version)
        if found is None:
            raise NotFound("unknown_version", f"no {kind} {version}")
        card = found[0]
        if kind == "model" and card.get("servable") is False:
            raise InvalidInput("not_servable", f"model {version} cannot answer visitors: {card.get('why_not')}")
        refused = [gate["sentence"] for gate in card.get("gates", ()) if gate["verdict"] == "refused"]
        if refused:
            raise InvalidInput("gates_refused", f"model {version} was refused: {'; '.join(refused)}")

    async def promote(self, rollout_id: str, by: str, why: str = "") -> Rollout:
        """Put the candidate in force now. Raises as `training.rollout.promote`; NotFound `unknown_rollout`."""
        return await self._by_hand(rollout_id, promote, by, why)

    async def roll_back(self, rollout_id: str, by: str, why: str = "") -> Rollout:
        """End it; every shard that answers decides with the champion when this returns."""
        return await self._by_hand(rollout_id, roll_back, by, why)

    async def pause(self, rollout_id: str, by: str, why: str = "") -> Rollout:
        """Stop the ramp and its clock; the guards stay awake."""
        return await self._by_hand(rollout_id, pause, by, why)

    async def resume(self, rollout_id: str, by: str, why: str = "") -> Rollout:
        """Go on where it was paused."""
        return await self._by_hand(rollout_id, resume, by, why)

    async def _by_hand(self, rollout_id: str, verb: Verb, by: str, why: str) -> Rollout:
        live = await self._live()
        numbers = live["numbers"] if live.get("rollout") == rollout_id else {}
        now_ms = self._clock()
        board, _ = await self._log.change(
            lambda held: taken(held, verb(held.find(rollout_id), by, why, now_ms, numbers))
        )
        await self._alignment.align(board)
        return board.find(rollout_id)

    # -- by itself ---------------------------------------------------------------------------------------

    async def has_candidate(self) -> bool:
        """Whether a candidate is on its way or waits: without one there is nothing to judge."""
        board = await self._log.board()
        return board.running is not None or board.waiting is not None

    def sample(self, counts: Callable[[str], bool], share: float) -> None:
        """Know the traffic by the tracks that `counts` names, a share of all."""
        self._counts, self._counted_share = counts, share

    def take(self, examples: Sequence[Example]) -> None:
        """What has become of decisions; looked at with the next `look`."""
        self._recent.extend(
            (e.t_ms, e.track, e.label) for e in examples if e.matured and not e.withdrawn and self._counts(e.track)
        )
        self._pending.extend(e for e in examples if e.trial is not None and (e.matured or e.withdrawn))

    @property
    def under_way(self) -> bool:
        """Whether the last look found a rollout to judge."""
        return self._users is not None

    async def look(self, examples: Sequence[Example] = ()) -> list[Event]:
        """Do what the evidence demands, with these examples taken in; says what was done."""
        async with self._looking:
            self.take(examples)
            board, done = await self._log.board(), []
            if board.running is None:
                done += await self._start_waiting()
                board = await self._log.board()
            missing = await self._alignment.align(board, ask=self._is_time_to_ask(board.running))
            # Nothing is awaited from here to the observation: what is pending is in the state, or it is in the users.
            taken_in, self._pending = self._pending, []
            running = board.running
            if running is not None:
                users = self._users_of(running)
                users.observe(taken_in)
                for _ in running.plan.stages:
                    events = await self._judge(running, users, missing)
                    done += events
                    board = await self._log.board()
                    if not events or board.running is None or board.running.id != running.id:
                        break
                    running, missing = board.running, await self._alignment.align(board)
                await self._alignment.align(board)
            if board.running is None or (self._users and board.running.id != self._users.rollout_id):
                self._users = None
            await self._tell(board.running, force=bool(done))
            return done

    def _is_time_to_ask(self, running: Rollout | None) -> bool:
        """Whether to ask the shards again if they can try the candidate: at first, and some times a minute."""
        if running is None:
            return False
        now_ms, asked = self._clock(), (running.id, running.stage)
        if asked == self._asked[0] and now_ms - self._asked[1] < ASK_EVERY_MS:
            return False
        self._asked = asked, now_ms
        return True

    async def _judge(self, running: Rollout, users: Users, missing: str | None) -> list[Event]:
        numbers = users.numbers(running.stage, scored=running.scored)
        step = look(running, users.readings(running.stage, scored=running.scored), self._clock(), numbers, missing)
        if step is None:
            return []
        # Somebody may have paused or ended it since it was read: then it is judged anew, next time.
        _, events = await self._log.change(lambda held: taken(held, step) if held.running == running else None)
        for event in events:
            log.info("rollout %s: %s (%s)", event.rollout, event.what, event.why)
        return events

    async def _start_waiting(self) -> list[Event]:
        champion, now_ms = await self._champions(), self._clock()
        traffic = await self.traffic()

        def make(board: Board) -> Change | None:
            if board.waiting is None:
                return None
            return start_waiting(board, champion, now_ms, {"expected": expected(board.waiting.plan, traffic).to_dict()})

        return (await self._log.change(make))[1]

    async def begin(self) -> None:
        """After a start: what a killed process has left half done is finished."""
        await self._log.mend()
        await self._alignment.align(await self._log.board())

    def state(self) -> dict[str, Any]:
        """What it holds of visitors, as JSON keeps it."""
        plan = self._users.plan.to_dict() if self._users else None
        return {
            "users": self._users.snapshot() if self._users else None, "plan": plan,
            "pending": [example.content() for example in self._pending],
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        held = state["users"]
        self._users = Users.restore(held, Plan.from_dict(state["plan"])) if held else None
        self._pending = [_example(content) for content in state["pending"]]

    def _users_of(self, running: Rollout) -> Users:
        if self._users is None or self._users.rollout_id != running.id:
            self._users = Users(running.id, running.plan)
        return self._users

    # -- told --------------------------------------------------------------------------------------------

    async def status(self, n_lines: int = 100) -> dict[str, Any]:
        """Everything: what is under way with its evidence, what waits, what has ended, the audit log, the traffic."""
        board, live, traffic = await self._log.board(), await self._live(), await self.traffic()
        now_ms, running = self._clock(), board.running
        evidence = live["numbers"] if running is not None and live.get("rollout") == running.id else None
        return {
            "rollouts": [one.told(now_ms) for one in board.all()],
            "running": running and {**running.told(now_ms), "evidence": evidence},
            "waiting": board.waiting and board.waiting.told(now_ms),
            "policy": POLICY,
            "traffic": {"usersPerDay": round(traffic.users_per_day, 1), "conversion": round(traffic.conversion, 5)},
            "expected": expected(self.settings.plan, traffic).to_dict(),
            "audit": await self._log.audit(n_lines),
        }

    async def traffic(self) -> Traffic:
        """What comes by now, by the last examples that matured; nothing where none have."""
        if not self._recent:
            kept = (await self._live()).get("traffic", {})
            return Traffic(kept.get("users_per_day", 0.0), kept.get("conversion", 0.0))
        first: dict[str, int] = {}
        for _, track, label in self._recent:
            first.setdefault(track, label)
        times = [t_ms for t_ms, _, _ in self._recent]
        span_ms = max(max(times) - min(times), 1000)
        per_day = len(first) / self._counted_share / span_ms * DAY_MS
        return Traffic(per_day, sum(first.values()) / len(first))

    async def _live(self) -> dict[str, Any]:
        found = await self._documents.get(LIVE_DOCUMENT)
        return found[1] if found else {}

    async def _tell(self, running: Rollout | None, *, force: bool) -> None:
        """Let other processes see the evidence; at most once a second, since each time is a write to disk."""
        now_ms = self._clock()
        if not force and now_ms - self._told_ms < 1000:
            return
        self._told_ms = now_ms
        numbers = self._users.numbers(running.stage, scored=running.scored) if running and self._users else {}
        traffic = await self.traffic()
        document = {
            "rollout": running.id if running else None, "numbers": numbers, "at_ms": now_ms,
            "traffic": {"users_per_day": traffic.users_per_day, "conversion": traffic.conversion},
        }  # fmt: skip
        rev, held = await self._documents.get(LIVE_DOCUMENT) or (0, {})
        if {**held, "at_ms": now_ms} != document:
            await self._documents.compare_and_set(LIVE_DOCUMENT, rev, document)

    async def _champions(self) -> Callable[[Kind], str]:
        pointer = await self._versions.world()
        return partial(champion_of, pointer)


def _example(content: Sequence[Any]) -> Example:
    """An example without its row, which nobody here reads."""
    names = [name for name in Example._fields if name != "row"]
    fields = dict(zip(names, content, strict=True))
    return Example(**{**fields, "trial": tuple(fields["trial"])}, row=NO_ROW)
