"""Every setting of Kairos in one typed tree, with its one default; read from a YAML file and `KAIROS_*` variables."""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from engine.errors import InvalidInput
from engine.identities import IdentityRules
from training.rollout_plan import RAMP, Plan, ramp

PREFIX: Final = "KAIROS_"
PLAN: Final = Plan()
MIB: Final = 1024 * 1024
_LISTS: Final = frozenset({"origins", "trusted_proxies", "hosts"})
"""Settings that a variable may give as a,b,c."""


def patient_share() -> float:
    """A third of one processor where there are two or fewer, else all of one.

    In the idle class a training waits for whoever wants a processor, and is still felt by whoever shares a core with
    it (`ONLY=training make bench`).
    """
    return 1.0 if (os.cpu_count() or 1) > 2 else 1.0 / 3.0


def half_of_the_processors() -> int:
    """As many shards as keep half of this machine busy, at least one; proxy, ingress and store want the other half.

    More take turns on the same processors: two shards on two cores make the p99 at 64 connections half as long again,
    or more (`ONLY=shards make bench`).
    """
    return max(1, (os.cpu_count() or 2) // 2)


class _Tree(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Retention(_Tree):
    """How long things are kept, in days; afterwards a decision answers 410 and a profile is forgotten."""

    profiles_days: float = Field(default=90, gt=0)
    decisions_days: float = Field(default=30, gt=0)
    signals_days: float = Field(default=30, gt=0)


class Archived(_Tree):
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


class ConsentDefaults(_Tree):
    """What counts as agreed where a visitor's request says nothing."""

    analytics: bool = True
    personalisation: bool = True
    training: bool = True


class BodyLimits(_Tree):
    """Sizes after decompression and patience with slow senders."""

    event_bytes: int = Field(default=32 * 1024, ge=1024)
    batch_bytes: int = Field(default=500 * 1024, ge=1024)
    book_bytes: int = Field(default=1024 * 1024, ge=1024)
    catalogue_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    depth: int = Field(default=64, ge=8, le=200)
    read_timeout_s: float = Field(default=10, gt=0)
    n_base: int = Field(default=500, ge=1)
    n_signals: int = Field(default=1000, ge=1)


class Lateness(_Tree):
    """How old an event may be and still count in sessions and aggregates."""

    max_late_h: float = Field(default=24, gt=0)


class Deadlines(_Tree):
    """Time limits of the ingress, in milliseconds."""

    decide_ms: int = Field(default=150, ge=1, le=10_000)
    observe_ms: int = Field(default=5_000, ge=1)
    read_ms: int = Field(default=2_000, ge=1)
    late_reply_ms: int = Field(default=3_000, ge=0)
    """How long a decision that missed its deadline is waited for, so that it can be superseded."""


class Geoip(_Tree):
    """Places of addresses, from a MaxMind-format file (GeoLite2-City, DB-IP); addresses are never kept."""

    file: Path | None = None
    accuracy_km: float = Field(default=50, gt=0)
    """A place vaguer than this gives its country, city and time zone, and no degrees."""


class Identity(_Tree):
    """Which identities are read beside userId and anonymousId, and when they are not joined."""

    email: bool = False
    """An address is an identity by its hash, and is kept nowhere: traits called email give way to email_sha256."""
    devices: bool = False
    """deviceId, or context.device.id, is an identity."""
    max_users_per_device: int = Field(default=3, ge=1, le=32)

    def rules(self) -> IdentityRules | None:
        """The rules by which events are read; None where there are only the two."""
        return IdentityRules(self.email, self.devices) if self.email or self.devices else None


class FirstPartyId(_Tree):
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


class Tier1Asked(_Tree):
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


class Training(_Tree):
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
    """How often the trainer looks for new examples and for what was asked."""


class Rollout(_Tree):
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


class WebhookTo(_Tree):
    """Where a book's webhooks of one name are sent, and the secret that signs them."""

    url: str = Field(pattern=r"^https?://\S+$", max_length=2000)
    secret: SecretStr = Field(min_length=16)
    timeout_s: float = Field(default=5, gt=0, le=60)
    tries: int = Field(default=8, ge=1, le=50)
    """So many in vain, and a message is laid aside as a dead letter (`kairos webhooks`)."""
    first_wait_s: float = Field(default=1, gt=0)
    longest_wait_s: float = Field(default=300, gt=0)


class Settings(_Tree):
    """The whole tree. `Settings()` is what `kairos up` runs with."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    data_dir: Path = Path(".kairos")
    redis_url: str | None = None
    n_shards: int = Field(default_factory=half_of_the_processors, ge=1, le=1024)
    n_partitions: int = Field(default=64, ge=1, le=4096)
    keys_file: Path | None = None
    store_durability: Literal["required", "any"] = "required"
    origins: tuple[str, ...] = ()
    """Web origins whose pages may send events and ask for decisions; `*` is any."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks of your own proxies (10.0.0.0/8, 127.0.0.1), whose X-Forwarded-For and -Proto are believed."""
    geoip: Geoip = Geoip()
    tier1: Tier1Asked = Tier1Asked()
    identity: Identity = Identity()
    first_party: FirstPartyId = FirstPartyId()
    default_limit: int = Field(default=10, ge=1, le=100)
    deadlines: Deadlines = Deadlines()
    retention: Retention = Retention()
    archive: Archived = Archived()
    consent: ConsentDefaults = ConsentDefaults()
    body: BodyLimits = BodyLimits()
    late: Lateness = Lateness()
    training: Training = Training()
    rollout: Rollout = Rollout()
    webhooks: dict[str, WebhookTo] = Field(default_factory=dict)
    """Destinations by the names that campaigns use, e.g. {shop_mail: {url: https://…, secret: …}}."""
    rates: dict[str, float] = Field(default_factory=dict)
    """Value of one unit of a currency in any common unit, e.g. {EUR: 1, USD: 0.92}; a currency without is left out."""

    @property
    def archive_place(self) -> str:
        """Where the archive is."""
        return self.archive.place or str(self.data_dir.absolute() / "archive")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach Kairos."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine only.

    >>> is_loopback("localhost"), is_loopback("127.0.0.9"), is_loopback("::1"), is_loopback("::ffff:127.0.0.1")
    (True, True, True, True)
    >>> is_loopback("0.0.0.0"), is_loopback("::")
    (False, False)
    """
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # Python 3.11 does not look behind ::ffff:127.0.0.1
    return bool((mapped or address).is_loopback)


def load_settings(path: Path | None, environ: Mapping[str, str], **given: object) -> Settings:
    """Settings from defaults, then the file, then `KAIROS_PORT`, `KAIROS_RETENTION__PROFILES_DAYS`, …, then `given`.

    `REDIS_URL` is read too. Variables that name no setting are not ours and are left alone.

    Raises:
        InvalidInput: `bad_settings`, with every fault, what was found and what was expected.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            read = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            raise InvalidInput("bad_settings", f"{path}: {' '.join(str(error).split())}") from None
        if read is not None and not isinstance(read, dict):
            raise InvalidInput("bad_settings", f"{path}: found a {type(read).__name__}, expected a mapping")
        tree.update(read or {})
    if "REDIS_URL" in environ:
        tree["redis_url"] = environ["REDIS_URL"]
    for name, value in environ.items():
        if name.startswith(PREFIX):
            _set(tree, name.removeprefix(PREFIX).lower().split("__"), value)
    tree.update({name: value for name, value in given.items() if value is not None})
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        faults = "; ".join(_fault(dict(e)) for e in error.errors(include_url=False))
        raise InvalidInput("bad_settings", f"{path}: {faults}" if path else faults) from None


def _set(tree: dict[str, Any], steps: list[str], value: str) -> None:
    model: Any = Settings
    for step in steps[:-1]:
        if step not in model.model_fields:
            return
        model = model.model_fields[step].annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return
        branch = tree.setdefault(step, {})
        if not isinstance(branch, dict):
            return
        tree = branch
    if steps[-1] in model.model_fields:
        structured = value[:1] in ("[", "{")
        tree[steps[-1]] = yaml.safe_load(value) if structured else value.split(",") if steps[-1] in _LISTS else value


def _fault(error: dict[str, Any]) -> str:
    where = ".".join(str(step) for step in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), _names(Settings), n=1)
        return f"{where}: no such setting" + (f" (did you mean {near[0]}?)" if near else "")
    return f"{where}: found {error['input']!r}, {error['msg'][0].lower()}{error['msg'][1:]}"


def _names(model: type[BaseModel]) -> list[str]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        names.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names.extend(_names(field.annotation))
    return names
