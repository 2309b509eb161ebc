"""The shapes of what is told of rollouts, for the OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from serving.contract import Shape


class RolloutState(Shape):
    """A candidate on its way: shadow, then growing shares of users, to its end."""

    id: str
    kind: Literal["model", "book"]
    candidate: str
    champion: str
    phase: Literal["waiting", "running", "paused", "promoted", "rolled_back", "kept_champion", "superseded"]
    stage: str
    share: float = Field(description="The share of users that get the candidate now, 0–1.")
    stage_seconds: float | None
    why: str
    by: str
    reason: str = Field(description="Why it ended as it did.")
    submitted_ms: int
    started_ms: int | None
    ended_ms: int | None
    stages: list[str]


class BookTried(Shape):
    """A new book on its way to a share of users, and how many recent decisions it would change."""

    version: str
    rollout: RolloutState
    dry_run: dict[str, int]


class Rollouts(Shape):
    """Everything about rollouts: the one under way with its evidence, the one that waits, what has ended, the log."""

    rollouts: list[RolloutState]
    running: dict[str, Any] | None = Field(description="As above, and its live `evidence`.")
    waiting: RolloutState | None
    policy: str
    traffic: dict[str, float]
    expected: dict[str, Any] = Field(description="Days that an equal candidate needs at the traffic of now.")
    audit: list[dict[str, Any]] = Field(description="Who did what, when, why, and the numbers; the newest first.")
