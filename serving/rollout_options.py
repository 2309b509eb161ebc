"""The settings of rollouts as their host takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.settings import Settings

if TYPE_CHECKING:
    from actors.rollout import RolloutSettings
    from actors.rollout_host import RolloutOptions


def rollout_settings(settings: Settings) -> RolloutSettings:
    """How rollouts go here."""
    # Imported when it is needed: the libraries of statistics would cost every ingress memory, and the start its time.
    from actors.rollout import RolloutSettings

    given = settings.rollout
    grace_ms = int(settings.training.grace_s * 1000)
    return RolloutSettings(given.plan(), given.look_every_s, given.save_every_s, grace_ms)


def rollout_options(settings: Settings, redis_url: str) -> RolloutOptions:
    """What rollouts over this store and these settings are started with."""
    from actors.rollout_host import RolloutOptions

    return RolloutOptions(redis_url, settings.archive_place, rollout_settings(settings))
