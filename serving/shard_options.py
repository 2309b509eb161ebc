"""The settings of shards as their hosts take them."""

from __future__ import annotations

from actors.archive_settings import DAY_MS, ArchiveSettings
from actors.hosting import HostOptions
from actors.shard_settings import ShardSettings
from serving.settings import Settings


def shard_options(settings: Settings, redis_url: str, listen_host: str) -> list[HostOptions]:
    """What each shard over this store and these settings is started with; they listen on `listen_host`."""
    limits = ShardSettings(
        expire_after_ms=int(settings.retention.profiles_days * DAY_MS),
        rates=tuple(sorted(settings.rates.items())),
        max_users_per_device=settings.identity.max_users_per_device,
    )
    archived = (settings.archive_place, _archiving(settings))
    return [HostOptions(i, redis_url, listen_host, limits, *archived) for i in range(settings.n_shards)]


def _archiving(settings: Settings) -> ArchiveSettings:
    """The limits of tail and retention as the shards' archivers take them."""
    held, kept = settings.archive, settings.retention
    return ArchiveSettings(
        tail_bytes=held.tail_bytes, hard_bytes=held.hard_bytes, segment_bytes=held.segment_bytes,
        tail_age_ms=int(held.tail_days * DAY_MS), signals_ms=int(kept.signals_days * DAY_MS),
        decisions_ms=int(kept.decisions_days * DAY_MS), profiles_ms=int(kept.profiles_days * DAY_MS),
    )  # fmt: skip
