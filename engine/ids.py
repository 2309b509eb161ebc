"""Identities: tracks, profiles, partitions and decisions, each encoded so that reading it needs no index."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from engine.errors import InvalidInput

ANON, DEVICE, EMAIL, USER = "anon:", "device:", "email:", "user:"
KINDS = (ANON, DEVICE, EMAIL, USER)
"""Kinds of identity, from the most passing to the most personal; of a profile's tracks the last kind is the root."""
MAX_ID_LENGTH = 256
_URLSAFE = bytes.maketrans(b"+/", b"-_")
# A copy of a hash that has its parameters costs a quarter less than a new one.
_PLAIN: Final = blake2b(digest_size=8)
EMAIL_DIGITS = 64
"""An e-mail is an identity by its SHA-256 in hexadecimal digits, never by itself."""


def anon_track(anonymous_id: str) -> str:
    """The track of an anonymous visitor or device."""
    return ANON + anonymous_id


def user_track(user_id: str) -> str:
    """The track of a known user."""
    return USER + user_id


def device_track(device_id: str) -> str:
    """The track of a device or installation, by the id its system or app gives it."""
    return DEVICE + device_id


def email_track(digest: str) -> str:
    """The track of an e-mail address, by the digest of `engine.email`."""
    return EMAIL + digest


def rank(track_id: str) -> int:
    """How personal an identity is: 0 anonymous, 1 device, 2 e-mail, 3 user.

    >>> [rank(t) for t in ("anon:a", "device:d", "email:0f", "user:u")]
    [0, 1, 2, 3]
    """
    return next((i for i, kind in enumerate(KINDS) if track_id.startswith(kind)), 0)


def partition_of(track_id: str, n_partitions: int) -> int:
    """The home partition of an identity.

    >>> partition_of("user:ada", 64) == partition_of("user:ada", 64)
    True
    """
    digest = _PLAIN.copy()
    digest.update(track_id.encode())
    return int.from_bytes(digest.digest(), "big") % n_partitions


def profile_id(root: str) -> str:
    """The public id of the profile whose root track is `root`.

    >>> root_of(profile_id("anon:a-1"))
    'anon:a-1'
    """
    return "p_" + binascii.b2a_base64(root.encode(), newline=False).rstrip(b"=").translate(_URLSAFE).decode()


def root_of(identity: str) -> str:
    """The root track named by a profile id, `user:…`, `anon:…`, `device:…` or `email:<sha256>`.

    Raises:
        InvalidInput: `bad_profile_id` for anything else.
    """
    if identity.startswith(KINDS):
        if _is_track(identity):
            return identity
    elif identity.startswith("p_"):
        try:
            root = base64.urlsafe_b64decode(identity[2:] + "=" * (-len(identity[2:]) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            root = ""
        if _is_track(root) and profile_id(root) == identity:
            return root
    raise InvalidInput(
        "bad_profile_id",
        "expected a profileId, or user:<userId>, anon:<anonymousId>, device:<deviceId> or email:<sha256>",
    )


def _is_track(text: str) -> bool:
    kind, _, name = text.partition(":")
    if kind + ":" == EMAIL:
        return len(name) == EMAIL_DIGITS and set(name) <= set("0123456789abcdef")
    return kind + ":" in KINDS and 0 < len(name) <= MAX_ID_LENGTH


def message_hash(key: bytes, message_id: str) -> int:
    """A keyed 64-bit hash of a message id, so that ids can be compared without being kept."""
    digest = _keyed(key).copy()
    digest.update(message_id.encode())
    return int.from_bytes(digest.digest(), "big")


@lru_cache(maxsize=8)
def _keyed(key: bytes) -> blake2b:
    return blake2b(digest_size=8, key=key)


@dataclass(frozen=True, slots=True, order=True)
class DecisionId:
    """Where a decision stands in the journal: partition, entry `epoch-seq`, index in the entry."""

    partition: int
    epoch: int
    seq: int
    index: int

    def __str__(self) -> str:
        return f"d_{self.partition}_{self.epoch}_{self.seq}_{self.index}"

    @classmethod
    def parse(cls, text: str) -> DecisionId:
        """Read the text form back.

        Raises:
            InvalidInput: `bad_decision_id`.
        """
        head, *parts = text.split("_")
        if head == "d" and len(parts) == 4 and all(p.isascii() and p.isdigit() and len(p) < 20 for p in parts):
            found = cls(*(int(p) for p in parts))
            if str(found) == text:
                return found
        raise InvalidInput("bad_decision_id", "expected a decisionId as /v1/decide returned it")
