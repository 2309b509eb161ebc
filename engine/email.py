"""An e-mail address as an identity: normalised, then hashed; the address itself is kept nowhere.

Normalising: white space around it goes, all is made lower case (RFC 5321 lets the part before the @ tell cases apart,
no provider of note does), full stops at the end of the domain go, a domain in its own script becomes its ASCII form.
Then by provider, since the same mailbox has many spellings there:

- gmail.com, googlemail.com: full stops and what follows a `+` do not count; both domains are gmail.com
- outlook.com, hotmail.com, live.com, msn.com, icloud.com, me.com, mac.com, proton.me, protonmail.com, pm.me,
  fastmail.com, fastmail.fm, gmx.de, gmx.net: what follows a `+` does not count
- yahoo.com and ymail.com: what follows a `-` does not count

Others stay as they are: elsewhere `a+b@` may be somebody else.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

_ADDRESS: Final = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,255}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PLUS: Final = frozenset(
    {"outlook.com", "hotmail.com", "live.com", "msn.com", "icloud.com", "me.com", "mac.com", "proton.me",
     "protonmail.com", "pm.me", "fastmail.com", "fastmail.fm", "gmx.de", "gmx.net"}
)  # fmt: skip
_GOOGLE: Final = frozenset({"gmail.com", "googlemail.com"})
_MINUS: Final = frozenset({"yahoo.com", "ymail.com"})


def normalised(address: str) -> str | None:
    """The one spelling of an address; None for what is none.

    >>> normalised(" Ada.Love+shop@GoogleMail.com "), normalised("Ada.Love+shop@example.org"), normalised("ada")
    ('adalove@gmail.com', 'ada.love+shop@example.org', None)
    """
    text = address.strip().lower()
    if _ADDRESS.fullmatch(text) is None:
        return None
    local, _, domain = text.partition("@")
    try:
        domain = domain.rstrip(".").encode("idna").decode()
    except UnicodeError:
        return None
    labels = domain.split(".")
    if len(labels) < 2 or any(_LABEL.fullmatch(label) is None for label in labels):
        return None
    if domain in _GOOGLE:
        domain, local = "gmail.com", local.partition("+")[0].replace(".", "")
    elif domain in _PLUS:
        local = local.partition("+")[0]
    elif domain in _MINUS:
        local = local.partition("-")[0]
    return f"{local}@{domain}" if local else None


def email_digest(given: str) -> str | None:
    """The SHA-256 of a normalised address, in hexadecimal; a digest given as such is taken; None for neither.

    >>> email_digest("ADA@example.org") == email_digest(email_digest("ada@example.org"))
    True
    """
    text = given.strip().lower()
    if _DIGEST.fullmatch(text) is not None:
        return text
    address = normalised(given)
    return None if address is None else sha256(address.encode()).hexdigest()
