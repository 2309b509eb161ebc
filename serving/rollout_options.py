"""The settings of rollouts as their host takes them."""

from __future__ import annotations

from actors.rollout import RolloutSettings
from actors.rollout_host import RolloutOptions
from serving.settings import Settings


def rollout_settings(settings: Settings) -> RolloutSettings:
    """How rollouts go here."""
    given = settings.rollout
    grace_ms = int(settings.training.grace_s * 1000)
    return RolloutSettings(given.plan(), given.look_every_s, given.save_every_s, grace_ms)


def rollout_options(settings: Settings, redis_url: str) -> RolloutOptions:
    """What rollouts over this store and these settings are started with."""
    return RolloutOptions(redis_url, settings.archive_place, rollout_settings(settings))
