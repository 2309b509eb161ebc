"""What a run of Kairos was asked for, and the settings that come of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import InvalidInput
from serving.keys import KeyRing
from serving.places import places_of
from serving.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `kairos up` was asked for; None means: as the settings say."""

    port: int | None = None
    host: str | None = None
    data_dir: Path | None = None
    n_shards: int | None = None
    n_ingress: int = 1
    redis_url: str | None = None
    book: Path | None = None
    allow_weak_store: bool = False
    dashboard: bool = False
    settings: Path | None = None
    keys: Path | None = None
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def resolved(self) -> Settings:
        """The settings with these options on top.

        Raises:
            InvalidInput: `bad_settings`, `keys_required`, `bad_keys`, `bad_geoip_file`, `archive_not_shared`.
        """
        settings = load_settings(
            self.settings, self.environ, port=self.port, host=self.host, data_dir=self.data_dir,
            n_shards=self.n_shards, redis_url=self.redis_url, keys_file=self.keys,
            store_durability="any" if self.allow_weak_store else None,
        )  # fmt: skip
        KeyRing.load(settings, self.environ).check_bind(settings)
        places_of(settings)
        if "RAY_ADDRESS" in self.environ and settings.archive.place is None:
            raise InvalidInput(
                "archive_not_shared",
                "on a Ray cluster every node must reach the archive: set KAIROS_ARCHIVE__PLACE to s3://bucket/prefix, "
                "or to a folder that all nodes share",
            )
        return settings
