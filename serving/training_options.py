"""The settings of training as the trainer takes them."""

from __future__ import annotations

from typing import Final

from actors.trainer_settings import TrainerOptions, TrainerSettings
from serving.settings import Settings
from training.due import Cadence

HOUR_MS: Final = 3_600_000


def trainer_options(settings: Settings, redis_url: str) -> TrainerOptions:
    """What a trainer over this store and these settings is started with."""
    given = settings.training
    cadence = Cadence(
        labels=given.labels, refit_every_ms=int(given.refit_every_s * 1000), retrain_hour=given.retrain_hour,
        first_rows=given.first_rows, churn_every_ms=int(given.churn_every_h * HOUR_MS),
    )  # fmt: skip
    trainer = TrainerSettings(
        cadence=cadence, window_rows=given.window_rows, memory_bytes=given.memory_mb * 1024 * 1024,
        fewest_rows=given.fewest_rows, churn=given.churn, seed=given.seed, tick_ms=int(given.tick_s * 1000),
        read_ms=int(given.read_s * 1000),
        grace_ms=int(given.grace_s * 1000), processor_share=given.processor_share,
    )  # fmt: skip
    # A candidate that the trainer submits goes by the plan of the settings.
    from serving.rollout_options import rollout_settings

    return TrainerOptions(redis_url, settings.archive_place, trainer, rollout_settings(settings))
