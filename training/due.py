"""When to learn again, and how: newly matured labels, the clock, drift. Pure: times and counts are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal

from training.recipes import Recipe

Why = Literal["first", "labels", "schedule", "drift", "request", "job"]


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often: a refit after `labels` newly matured rows, not within `refit_every_ms` of the last look; trees anew
    once a day at `retrain_hour` (None: never by the clock), and on drift; a first model from `first_rows` rows.
    """

    labels: int = 2_000
    refit_every_ms: int = 600_000
    retrain_hour: int | None = 3
    first_rows: int = 2_000
    churn_every_ms: int = 86_400_000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where learning stands: rows in the window, how many of them are new since the last look, and when that was."""

    n_rows: int
    n_new: int
    trained: bool
    last_look_ms: int
    last_retrain_ms: int
    drift: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What should be done, and why."""

    recipe: Recipe
    why: Why


def due(cadence: Cadence, now: Standing, now_ms: int, zone: tzinfo = UTC) -> Wish | None:
    """What is due, the most thorough first; None if nothing is.

    A look that came to nothing (gates, too few labels) is not repeated before `refit_every_ms` and new labels.
    """
    rested = now_ms - now.last_look_ms >= cadence.refit_every_ms
    if not now.trained:
        enough = now.n_rows >= cadence.first_rows and now.n_new >= min(cadence.labels, cadence.first_rows)
        return Wish("retrain", "first") if enough and rested else None
    if now.drift and rested:
        return Wish("retrain", "drift")
    if cadence.retrain_hour is not None and now.n_new > 0:
        hour_ms = last_hour_ms(now_ms, cadence.retrain_hour, zone)
        if now.last_retrain_ms < hour_ms and (rested or now.last_look_ms < hour_ms):
            return Wish("retrain", "schedule")
    return Wish("refit", "labels") if rested and now.n_new >= cadence.labels else None


def last_hour_ms(now_ms: int, hour: int, zone: tzinfo = UTC) -> int:
    """The latest moment, in epoch ms, at which a day's `hour` struck in a zone.

    >>> last_hour_ms(86_400_000 + 1, 0), last_hour_ms(86_400_000 - 1, 3)
    (86400000, 10800000)
    """
    now = datetime.fromtimestamp(now_ms / 1000, zone)
    struck = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    if struck > now:
        struck -= timedelta(days=1)
    return int(struck.timestamp() * 1000)
