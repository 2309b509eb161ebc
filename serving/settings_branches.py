"""The branches of the tree of settings, each with its defaults and what it is for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from engine.errors import InvalidInput
from engine.identities import IdentityRules
from training.rollout_plan import RAMP, Plan, ramp

PLAN: Final = Plan()
MIB: Final = 1024 * 1024


def patient_share() -> float:
    """A third of one processor where there are two or fewer, else all of one.

    In the idle class a training waits for whoever wants a processor, and is still felt by whoever shares a core with
    it (`ONLY=training make bench`).
    """
    return 1.0 if (os.cpu_count() or 1) > 2 else 1.0 / 3.0


class Branch(BaseModel):
    """A part of the tree: it does not change, and knows every name in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Retention(Branch):
    """How long things are kept, in days; afterwards a decision answers 410 and a profile is forgotten."""

    profiles_days: float = Field(default=90, gt=0)
    decisions_days: float = Field(default=30, gt=0)
    signals_days: float = Field(default=30, gt=0)


class Archived(Branch):
    """Where the journal goes when it leaves the store, and how much of it the store holds; bytes a partition."""

    place: str | None = None
    """A folder, or `s3://bucket/prefix` where several nodes share it; else `archive` in the data directory."""
    tail_bytes: int = Field(default=8 * MIB, ge=64 * 1024)
    hard_bytes: int = Field(default=32 * MIB, ge=128 * 1024)
    """Beyond this, while nothing can be archived, nothing more is acknowledged."""
    segment_bytes: int = Field(default=8 * MIB, ge=64 * 1024)
    tail_days: float = Field(default=1, gt=0)
    """What is older leaves the store whatever its size."""

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.hard_bytes < self.tail_bytes + self.segment_bytes:
            raise ValueError("hard_bytes must be at least tail_bytes + segment_bytes")
        return self


class ConsentDefaults(Branch):
    """What counts as agreed where a visitor's request says nothing."""

    analytics: bool = True
    personalisation: bool = True
    training: bool = True


class BodyLimits(Branch):
    """Sizes after decompression and patience with slow senders."""

    event_bytes: int = Field(default=32 * 1024, ge=1024)
    batch_bytes: int = Field(default=500 * 1024, ge=1024)
    book_bytes: int = Field(default=1024 * 1024, ge=1024)
    catalogue_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    depth: int = Field(default=64, ge=8, le=200)
    read_timeout_s: float = Field(default=10, gt=0)
    n_base: int = Field(default=500, ge=1)
    n_signals: int = Field(default=1000, ge=1)


class Lateness(Branch):
    """How old an event may be and still count in sessions and aggregates."""

    max_late_h: float = Field(default=24, gt=0)


class Deadlines(Branch):
    """Time limits of the ingress, in milliseconds."""

    decide_ms: int = Field(default=150, ge=1, le=10_000)
    observe_ms: int = Field(default=5_000, ge=1)
    read_ms: int = Field(default=2_000, ge=1)
    late_reply_ms: int = Field(default=3_000, ge=0)
    """How long a decision that missed its deadline is waited for, so that it can be superseded."""


class Geoip(Branch):
    """Places of addresses, from a MaxMind-format file (GeoLite2-City, DB-IP); addresses are never kept."""

    file: Path | None = None
    accuracy_km: float = Field(default=50, gt=0)
    """A place vaguer than this gives its country, city and time zone, and no degrees."""


class Identity(Branch):
    """Which identities are read beside userId and anonymousId, and when they are not joined."""

    email: bool = False
    """An address is an identity by its hash, and is kept nowhere: traits called email give way to email_sha256."""
    devices: bool = False
    """deviceId, or context.device.id, is an identity."""
    max_users_per_device: int = Field(default=3, ge=1, le=32)

    def rules(self) -> IdentityRules | None:
        """The rules by which events are read; None where there are only the two."""
        return IdentityRules(self.email, self.devices) if self.email or self.devices else None


class FirstPartyId(Branch):
    """A visitor's id that the server keeps in a cookie of its own site, for browsers that lose theirs.

    Pages call with `credentials: "include"` from one of `origins`, each named (`*` does not do).
    """

    enabled: bool = False
    cookie: str = Field(default="kairos_id", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    max_age_days: float = Field(default=395, gt=0, le=400)
    domain: str | None = Field(default=None, pattern=r"^\.?[A-Za-z0-9.-]+$")
    """The shop's domain where Kairos answers on a host of its own below it."""
    same_site: Literal["Lax", "Strict", "None"] = "Lax"
    secure: Literal["auto", "always"] = "auto"
    """auto: behind TLS, as the connection or a trusted proxy's X-Forwarded-Proto says."""

    @model_validator(mode="after")
    def _browsers_take_it(self) -> Self:
        if self.same_site == "None" and self.secure != "always":
            raise ValueError("same_site None wants secure: always, or browsers do not take the cookie")
        return self


class Tier1Asked(Branch):
    """How the ingress asks Tier 1 at the addresses that campaigns name."""

    hosts: tuple[str, ...] = ()
    """The only hosts that a book may name; none given: any."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent with every request, e.g. {authorization: Bearer …}; wants `hosts`, or any book could collect them."""
    max_bytes: int = Field(default=256 * 1024, ge=1024)
    max_connections: int = Field(default=64, ge=1, le=4096)
    cache_entries: int = Field(default=10_000, ge=0)
    failures: int = Field(default=5, ge=1)
    """So many in a row, and nobody is asked for `open_s`; twice as long after each trial that fails."""
    open_s: float = Field(default=5, gt=0)
    longest_open_s: float = Field(default=60, gt=0)
    follow_s: float = Field(default=1, gt=0)
    """How often an ingress looks whether the book has changed."""

    @model_validator(mode="after")
    def _known_hosts(self) -> Self:
        if self.headers and not self.hosts:
            raise ValueError("headers want hosts: the names of those who may get them")
        return self


class Training(Branch):
    """When and from how much the trainer learns; `enabled: false` starts none."""

    enabled: bool = True
    labels: int = Field(default=2_000, ge=50)
    """So many newly matured examples make a refit of the leaves due."""
    refit_every_s: float = Field(default=600, ge=0)
    """Two looks are at least so far apart."""
    retrain_hour: int | None = Field(default=3, ge=0, le=23)
    """Once a day at this hour of the book's time zone trees are grown anew; null: only on drift and when asked."""
    first_rows: int = Field(default=2_000, ge=100)
    """A first model is learned from so many examples."""
    fewest_rows: int = Field(default=500, ge=100)
    window_rows: int = Field(default=200_000, ge=1_000)
    """The newest examples that are kept and learned from."""
    memory_mb: int = Field(default=1_500, ge=64)
    """What the rows of a training may take; fewer are read where the window is larger."""
    processor_share: float = Field(default_factory=patient_share, gt=0, le=1)
    """Of one processor, what growing trees takes over time."""
    grace_s: float = Field(default=60, ge=0)
    """What is waited beyond a conversion's window before nothing having come counts as a negative."""
    churn: bool = True
    churn_every_h: float = Field(default=24, gt=0)
    seed: int = 0
    tick_s: float = Field(default=1, gt=0)
    """How often the trainer looks for what was asked."""
    read_s: float = Field(default=4, ge=0)
    """How often it reads what there is to learn from: at full load once a second would cost half as much again."""


class Rollout(Branch):
    """How a candidate reaches visitors; the columns name one value a stage, a share of 0 is shadow.

    A stage lasts `minimum_s` and until `minimum_users` are observed; by `horizon_s` without it the champion stays.
    """

    enabled: bool = True
    shares: tuple[float, ...] = tuple(stage.share for stage in RAMP)
    minimum_s: tuple[float, ...] = tuple(stage.minimum_s for stage in RAMP)
    horizon_s: tuple[float, ...] = tuple(stage.horizon_s for stage in RAMP)
    minimum_users: tuple[int, ...] = tuple(stage.minimum_users for stage in RAMP)
    alpha: float = Field(default=PLAN.alpha, gt=0, lt=1)
    """The error of all guards together: how often equal candidates may be rolled back."""
    margin: float = Field(default=PLAN.margin, gt=0, lt=1)
    """A challenger that converts by this share less is tolerated, and no further."""
    harm_margin: float = Field(default=PLAN.harm_margin, ge=0)
    """The same for more errors and more slow answers."""
    quality_margin: float = Field(default=PLAN.quality_margin, ge=0)
    """The same for its log-loss, as a share of the champion's."""
    look_every_s: float = Field(default=0.5, gt=0)
    save_every_s: float = Field(default=20, gt=0)

    @model_validator(mode="after")
    def _climbs(self) -> Self:
        try:
            self.plan()
        except InvalidInput as fault:
            raise ValueError(fault.message) from None
        return self

    def plan(self) -> Plan:
        """The plan of every rollout."""
        stages = ramp(self.shares, self.minimum_s, self.horizon_s, self.minimum_users)
        return Plan(stages, self.alpha, self.margin, self.harm_margin, self.quality_margin)


class WebhookTo(Branch):
    """Where a book's webhooks of one name are sent, and the secret that signs them."""

    url: str = Field(pattern=r"^https?://\S+$", max_length=2000)
    secret: SecretStr = Field(min_length=16)
    timeout_s: float = Field(default=5, gt=0, le=60)
    tries: int = Field(default=8, ge=1, le=50)
    """So many in vain, and a message is laid aside as a dead letter (`kairos webhooks`)."""
    first_wait_s: float = Field(default=1, gt=0)
    longest_wait_s: float = Field(default=300, gt=0)
