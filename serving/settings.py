"""Every setting of Kairos in one typed tree, with its one default; read from a YAML file and `KAIROS_*` variables."""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

from engine.errors import InvalidInput
from serving.settings_branches import (
    Archived,
    BodyLimits,
    Branch,
    ConsentDefaults,
    Deadlines,
    FirstPartyId,
    Geoip,
    Identity,
    Lateness,
    Retention,
    Rollout,
    Tier1Asked,
    Training,
    WebhookTo,
)

PREFIX: Final = "KAIROS_"
_LISTS: Final = frozenset({"origins", "trusted_proxies", "hosts"})
"""Settings that a variable may give as a,b,c."""


def half_of_the_processors() -> int:
    """As many shards as keep half of this machine busy, at least one; proxy, ingress and store want the other half.

    More take turns on the same processors: two shards on two cores make the p99 at 64 connections half as long again,
    or more (`ONLY=shards make bench`).
    """
    return max(1, (os.cpu_count() or 2) // 2)


class Settings(Branch):
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
