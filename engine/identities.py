"""Identities beside userId and anonymousId: device ids, and e-mail addresses by their hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.email import email_digest
from engine.fields import Rejected, identifier
from engine.ids import anon_track, device_track, email_track, rank, user_track

HASHED_TRAIT: Final = "email_sha256"
"""The trait that stands for an address where addresses are identities."""
_NOTHING: Final[Mapping[str, object]] = {}


@dataclass(frozen=True, slots=True)
class IdentityRules:
    """Which further identities are read. Without either, nothing but userId and anonymousId is.

    `email`: an address is an identity by the SHA-256 of its normalised form (`engine.email`), and the traits called
    `email` give way to that digest, as do ids that are addresses, so that none is kept. `devices`: a device's id is
    an identity.
    """

    email: bool = False
    devices: bool = False

    def others(self, body: Mapping[str, object]) -> tuple[str, ...]:
        """The tracks of the further identities that an event or a request names, the most personal first.

        An address is taken from `hashedEmail` or `email`, also among the traits, a device from `deviceId` or
        `context.device.id`.

        Raises:
            Rejected: `bad_email`, `bad_device_id`, for one given by itself; an odd trait counts as not given.
        """
        found: list[str] = []
        context = _mapping(body, "context")
        if self.email and (digest := self._digest(body, context)) is not None:
            found.append(email_track(digest))
        if self.devices:
            device = identifier("deviceId", body.get("deviceId"), "bad_device_id")
            if device is None:
                given = _mapping(context, "device").get("id")
                device = given if isinstance(given, str) and _is_identifier(given) else None
            if device is not None:
                found.append(device_track(device))
        return tuple(found)

    def _digest(self, body: Mapping[str, object], context: Mapping[str, object]) -> str | None:
        for name in ("hashedEmail", "email"):
            given = body.get(name)
            if given is None:
                continue
            digest = email_digest(given) if isinstance(given, str) and len(given) <= 512 else None
            if digest is None:
                # What was found is not repeated: it may be somebody's address all the same.
                raise Rejected("bad_email", f"{name}: expected an e-mail address, or the SHA-256 of one in hexadecimal")
            return digest
        for traits in (_mapping(body, "traits"), _mapping(context, "traits")):
            for name in ("hashedEmail", HASHED_TRAIT, "email"):
                given = traits.get(name)
                if isinstance(given, str) and len(given) <= 512 and (digest := email_digest(given)) is not None:
                    return digest
        return None

    def kept(self, given: str | None) -> str | None:
        """An id as it is kept: one that is itself an address by its digest, where addresses are identities.

        >>> IdentityRules(email=True).kept("Ada@example.org") == email_digest("ada@example.org")
        True
        """
        if not self.email or given is None or "@" not in given:
            return given
        return email_digest(given) or given

    def hide(self, fields: dict[str, Any]) -> None:
        """Put the digest in the place of every address among the traits of a signal.

        Properties that nothing reads are let go: an address may be anywhere in them.
        """
        if not self.email:
            return
        fields.pop("properties", None)
        traits = fields.get("traits")
        if not traits:
            return
        for name in [name for name in traits if name.strip().lower() in _ADDRESSES]:
            given = traits.pop(name)
            digest = email_digest(given) if isinstance(given, str) else None
            if digest is not None:
                traits.setdefault(HASHED_TRAIT, digest)


_ADDRESSES: Final = frozenset({"email", "e-mail", "e_mail", "mail", "emailaddress", "email_address", "hashedemail"})
"""Names of traits, in small letters, that hold an address."""


def pairs(user: str | None, anonymous: str | None, others: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Who is to be linked to whom where one event names several identities: each to the most personal.

    Without the pair of anonymousId and userId, which every identify makes anyway.
    """
    tracks = [*others]
    if user is not None:
        tracks.append(user_track(user))
    elif anonymous is not None:
        tracks.append(anon_track(anonymous))
    if len(tracks) < 2:
        return ()
    head = max(tracks, key=rank)
    return tuple((track, head) for track in tracks if track != head)


def _mapping(body: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = body.get(name)
    return value if isinstance(value, dict) else _NOTHING


def _is_identifier(text: str) -> bool:
    try:
        return identifier("id", text) is not None
    except Rejected:
        return False
