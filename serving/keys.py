"""API keys: issued once in plain text, kept as hashes, each with the scopes it opens."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final, Self

import orjson

from engine.errors import InvalidInput, Unauthorised
from serving.settings import Settings

SCOPES: Final = ("write", "decide", "admin")
ALL: Final = frozenset(SCOPES)
HASH: Final = "sha256:"
ENVIRONMENT: Final = "KAIROS_KEYS"
OPENED: Final = 256
"""`Authorization` headers of which it is remembered what they open."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as kept: its hash, its scopes (admin implies all) and a name for people."""

    hash: str
    scopes: frozenset[str]
    label: str = ""

    def to_line(self) -> str:
        """One line of the keys file."""
        row = {"hash": self.hash, "scopes": sorted(self.scopes), "label": self.label}
        return orjson.dumps(row).decode()


def hash_key(plain: str) -> str:
    """The kept form of a key. Keys carry 192 random bits, so that one fast hash is enough."""
    return HASH + sha256(plain.encode()).hexdigest()


def new_key(
    scopes: Iterable[str], label: str = "", *, token: Callable[[int], str] = secrets.token_urlsafe
) -> tuple[str, KeyRecord]:
    """Issue a key: the plain text to hand out, and the record to keep.

    Raises:
        InvalidInput: `bad_scope`.
    """
    wanted = _scopes(scopes)
    plain = f"k_{token(24)}"
    return plain, KeyRecord(hash_key(plain), wanted, label)


class KeyRing:
    """The keys that open this server. An empty ring is open to everybody, and only ever on loopback."""

    def __init__(self, records: Iterable[KeyRecord] = ()) -> None:
        self._records = {record.hash: record for record in records}
        # Only what opened something is kept: whoever tries keys neither fills it nor learns from its time.
        self._opened = lru_cache(maxsize=OPENED)(self._opens)

    @property
    def open(self) -> bool:
        """Whether no key is asked for."""
        return not self._records

    def check_bind(self, settings: Settings) -> None:
        """Refuse to serve beyond loopback without keys.

        Raises:
            InvalidInput: `keys_required`.
        """
        if self.open and not settings.loopback:
            raise InvalidInput(
                "keys_required",
                f"host: found {settings.host} and no keys; beyond loopback keys are required "
                f"(`kairos keys new`, {ENVIRONMENT} or keys_file)",
            )

    def scopes_of(self, authorization: str | None) -> frozenset[str]:
        """The scopes that an `Authorization` header opens: Bearer, or Basic with the key as user name.

        Raises:
            Unauthorised: `missing_key`, `bad_authorization`, `unknown_key`.
        """
        if self.open:
            return ALL
        if not authorization:
            raise Unauthorised("missing_key", "Authorization: found nothing, expected Bearer <key>")
        return self._opened(authorization)

    def _opens(self, authorization: str) -> frozenset[str]:
        digest = hash_key(_presented(authorization))
        record = self._records.get(digest)
        # The look-up is by a hash that nobody can steer; the comparison keeps the last step constant in time.
        if record is None or not hmac.compare_digest(record.hash, digest):
            raise Unauthorised("unknown_key", "Authorization: this key was never issued, or was withdrawn")
        return record.scopes

    @classmethod
    def load(cls, settings: Settings, environ: Mapping[str, str], also: Iterable[KeyRecord] = ()) -> Self:
        """The keys of the settings' file and of `KAIROS_KEYS` ("write:<key>,admin:<key>", plain or hashed), and `also`.

        Raises:
            InvalidInput: `bad_keys`, naming the line; nothing of a key is shown.
        """
        records = [*also, *parse_environment(environ.get(ENVIRONMENT, ""))]
        if settings.keys_file is not None:
            try:
                records += parse_file(settings.keys_file.read_text(encoding="utf-8"), str(settings.keys_file))
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidInput("bad_keys", f"{settings.keys_file}: {error}") from None
        return cls(records)


def parse_environment(text: str) -> list[KeyRecord]:
    """Read "write:<key>,decide+write:<key>,admin:sha256:<hash>"."""
    records = []
    for i, entry in enumerate(part for part in text.split(",") if part.strip()):
        names, colon, key = entry.strip().partition(":")
        if not colon or len(key) < 8:
            raise InvalidInput("bad_keys", f"{ENVIRONMENT}[{i}]: expected scope:<key> with at least 8 characters")
        digest = key if key.startswith(HASH) else hash_key(key)
        records.append(KeyRecord(digest, _scopes(names.split("+")), f"{ENVIRONMENT}[{i}]"))
    return records


def parse_file(text: str, name: str) -> list[KeyRecord]:
    """Read a keys file: a JSON object a line, or one JSON list; lines starting with # are notes."""
    stripped = text.strip()
    if stripped.startswith("["):
        rows = [(1, stripped)]
    else:
        numbered = ((n, line.strip()) for n, line in enumerate(text.splitlines(), 1))
        rows = [(n, line) for n, line in numbered if line and not line.startswith("#")]
    records = []
    for n, line in rows:
        try:
            parsed = orjson.loads(line)
            for row in parsed if isinstance(parsed, list) else [parsed]:
                if not (row["hash"].startswith(HASH) and len(row["hash"]) == len(HASH) + 64):
                    raise ValueError
                records.append(KeyRecord(row["hash"], _scopes(row["scopes"]), str(row.get("label", ""))))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InvalidInput(
                "bad_keys", f'{name}, line {n}: expected {{"hash":"sha256:…","scopes":["write"],"label":"…"}}'
            ) from None
    return records


def _scopes(names: Iterable[str]) -> frozenset[str]:
    wanted = frozenset(names)
    if not wanted or not wanted <= ALL:
        raise InvalidInput("bad_scope", f"scopes: found {sorted(wanted)}, expected some of {', '.join(SCOPES)}")
    return ALL if "admin" in wanted else wanted


def _presented(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer" and credentials:
        return credentials
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            pass
    raise Unauthorised("bad_authorization", "Authorization: expected Bearer <key>, or Basic with the key as user name")
