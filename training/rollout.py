"""One rollout as a state machine: shadow → canary at growing shares → promoted, rolled back, champion kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from engine.errors import Conflict
from training.rollout_evidence import Readings
from training.rollout_plan import Kind, Plan, Stage
from training.verdict import Limits, Ruling, Verdict, rule

ENGINE: Final = "kairos"
"""Who acts where no person does."""


class Phase(StrEnum):
    """Where a rollout stands."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    KEPT_CHAMPION = "kept_champion"
    SUPERSEDED = "superseded"


LIVE: Final = frozenset({Phase.RUNNING, Phase.PAUSED})
OPEN: Final = LIVE | {Phase.WAITING}


@dataclass(frozen=True, slots=True)
class Rollout:
    """A candidate on its way. `since_ms` is when its stage began, `held_ms` how long that stage was paused so far."""

    id: str
    kind: Kind
    candidate: str
    plan: Plan
    submitted_ms: int
    why: str = ""
    by: str = ENGINE
    phase: Phase = Phase.WAITING
    champion: str = ""
    stage: int = 0
    started_ms: int = 0
    since_ms: int = 0
    held_ms: int = 0
    paused_ms: int = 0
    ended_ms: int = 0
    reason: str = ""

    @property
    def scored(self) -> bool:
        """Whether the candidate gives scores of its own to be judged by."""
        return self.kind == "model"

    @property
    def at(self) -> Stage:
        """The stage it is in."""
        return self.plan.stages[self.stage]

    def elapsed_s(self, now_ms: int) -> float:
        """How long it has been in its stage, pauses left out."""
        until_ms = self.paused_ms if self.phase is Phase.PAUSED else now_ms
        return max(0.0, (until_ms - self.since_ms - self.held_ms) / 1000)

    def pointer(self) -> dict[str, Any] | None:
        """What the world pointer says of it; None when it is not under way."""
        if self.phase not in LIVE:
            return None
        return {
            "id": self.id, "kind": self.kind, "candidate": self.candidate, "stage": self.at.name,
            "share": self.at.share, "since_ms": self.since_ms,
        }  # fmt: skip

    def told(self, now_ms: int) -> dict[str, Any]:
        """As `GET /v1/rollouts` says it."""
        live = self.phase in LIVE
        return {
            "id": self.id, "kind": self.kind, "candidate": self.candidate, "champion": self.champion,
            "phase": str(self.phase), "stage": self.at.text, "share": self.at.share if live else 0.0,
            "stageSeconds": round(self.elapsed_s(now_ms), 1) if live else None, "why": self.why, "by": self.by,
            "reason": self.reason, "submittedMs": self.submitted_ms, "startedMs": self.started_ms or None,
            "endedMs": self.ended_ms or None, "stages": [stage.text for stage in self.plan.stages],
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Rollout:
        """What `to_dict` gave."""
        return cls(**{**fields, "plan": Plan.from_dict(fields["plan"]), "phase": Phase(fields["phase"])})


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit log: what happened to which rollout, who did it, when, why, and the numbers it rests on."""

    rollout: str
    what: str
    by: str
    at_ms: int
    why: str
    numbers: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)


Step = tuple[Rollout, Event]


def start(rollout: Rollout, champion: str, now_ms: int, numbers: dict[str, Any] | None = None) -> Step:
    """Begin the first stage, against the champion of this moment."""
    after = replace(
        rollout, phase=Phase.RUNNING, champion=champion, stage=0, started_ms=now_ms, since_ms=now_ms, held_ms=0
    )
    return after, Event(rollout.id, "started", ENGINE, now_ms, f"{after.at.text} against {champion}", numbers or {})


def look(
    rollout: Rollout, readings: Readings, now_ms: int, numbers: dict[str, Any], missing: str | None = None
) -> Step | None:
    """What the evidence demands now; None to go on as it is. `missing` says what makes the comparison impossible.

    While it is paused the guards stay awake and nothing else happens.
    """
    ruling = decide(rollout, readings, now_ms, missing)
    if ruling.verdict in (Verdict.ROLL_BACK, Verdict.INVALID):
        return _end(rollout, Phase.ROLLED_BACK, ENGINE, now_ms, f"{ruling.verdict}: {ruling.why}", numbers)
    if rollout.phase is Phase.PAUSED or ruling.verdict is Verdict.GO_ON:
        return None
    if ruling.verdict is Verdict.KEEP_CHAMPION:
        return _end(rollout, Phase.KEPT_CHAMPION, ENGINE, now_ms, ruling.why, numbers)
    if rollout.stage + 1 < len(rollout.plan.stages):
        after = replace(rollout, stage=rollout.stage + 1, since_ms=now_ms, held_ms=0)
        why = f"{rollout.at.text} → {after.at.text}: no guard objects"
        return after, Event(rollout.id, "stage", ENGINE, now_ms, why, numbers)
    return _end(rollout, Phase.PROMOTED, ENGINE, now_ms, ruling.why, numbers)


def decide(rollout: Rollout, readings: Readings, now_ms: int, missing: str | None = None) -> Ruling:
    """The verdict by the order of `training.verdict`; PROMOTE before the last stage is leave for the next one.

    The log-loss has to be shown before anybody is exposed and again at the end; conversion at the end alone.
    """
    stage, plan = rollout.at, rollout.plan
    last = rollout.stage + 1 == len(plan.stages)
    needs = (rollout.scored and (last or stage.share == 0), last)
    limits = Limits(
        plan.alpha, plan.margin, float(readings.allowed), stage.minimum_s, stage.horizon_s, stage.minimum_users
    )
    return rule(readings.standing(rollout.elapsed_s(now_ms), missing, needs), limits)


def promote(rollout: Rollout, by: str, why: str, now_ms: int, numbers: dict[str, Any]) -> Step:
    """A person's decision to put the candidate in force now. Raises Conflict `rollout_not_running`."""
    return _end(_live(rollout, "promoted"), Phase.PROMOTED, by, now_ms, why or "by hand", numbers)


def roll_back(rollout: Rollout, by: str, why: str, now_ms: int, numbers: dict[str, Any]) -> Step:
    """A person's decision to end it; of one that waits as well. Raises Conflict `rollout_not_running`."""
    open_ = rollout if rollout.phase is Phase.WAITING else _live(rollout, "rolled back")
    return _end(open_, Phase.ROLLED_BACK, by, now_ms, why or "by hand", numbers)


def pause(rollout: Rollout, by: str, why: str, now_ms: int, numbers: dict[str, Any]) -> Step:
    """Stop the ramp and its clock; arms stay, the guards stay awake. Raises Conflict `rollout_not_running`."""
    if rollout.phase is not Phase.RUNNING:
        raise _not(rollout, "paused")
    after = replace(rollout, phase=Phase.PAUSED, paused_ms=now_ms)
    return after, Event(rollout.id, "paused", by, now_ms, why or "by hand", numbers)


def resume(rollout: Rollout, by: str, why: str, now_ms: int, numbers: dict[str, Any]) -> Step:
    """Go on where it was paused. Raises Conflict `rollout_not_running`."""
    if rollout.phase is not Phase.PAUSED:
        raise _not(rollout, "resumed")
    held_ms = rollout.held_ms + max(0, now_ms - rollout.paused_ms)
    after = replace(rollout, phase=Phase.RUNNING, held_ms=held_ms, paused_ms=0)
    return after, Event(rollout.id, "resumed", by, now_ms, why or "by hand", numbers)


def supersede(rollout: Rollout, by: Rollout, now_ms: int) -> Step:
    """A newer candidate takes the place of one that waits."""
    return _end(rollout, Phase.SUPERSEDED, ENGINE, now_ms, f"{by.candidate} ({by.id}) is newer", {})


def _live(rollout: Rollout, word: str) -> Rollout:
    if rollout.phase not in LIVE:
        raise _not(rollout, word)
    return rollout


def _not(rollout: Rollout, word: str) -> Conflict:
    return Conflict("rollout_not_running", f"rollout {rollout.id} is {rollout.phase}, it cannot be {word}")


def _end(rollout: Rollout, phase: Phase, by: str, now_ms: int, why: str, numbers: dict[str, Any]) -> Step:
    after = replace(rollout, phase=phase, ended_ms=now_ms, reason=why, paused_ms=0)
    where = f" in {rollout.at.text}" if rollout.phase in LIVE else ""
    return after, Event(rollout.id, str(phase) + where, by, now_ms, why, numbers)
