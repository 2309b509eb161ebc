"""A visitor's id set by the server in a cookie of its own site, for browsers that soon forget what scripts store.

HttpOnly, so that no script reads it; Secure behind TLS; without the visitor's consent to analytics none is set, and
one that is there is taken back. Set from a host of the shop's own domain it lives as long as the settings say, where
browsers cut what scripts store to a week (https://webkit.org/tracking-prevention).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from engine.errors import InvalidInput
from engine.fields import identifier
from serving.bodies import HeaderMap
from serving.consent import ConsentReader, preferences_in
from serving.places import Proxies
from serving.settings_branches import FirstPartyId

Header = tuple[bytes, bytes]
PREFIX: Final = "fp_"
_BROWSER: Final = (b"cookie", b"origin", b"sec-fetch-site")
"""Any of these headers says that it is a browser that asks, and not the shop's own server."""
_IDS: Final = ("userId", "anonymousId", "deviceId", "email", "hashedEmail")


class FirstParty:
    """Verbs: complete (bodies by the cookie), given, set. `token` makes ids of 192 random bits."""

    def __init__(
        self,
        settings: FirstPartyId,
        proxies: Proxies,
        consents: ConsentReader,
        *,
        token: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self._settings, self._proxies, self._consents, self._token = settings, proxies, consents, token
        self._pattern = re.compile(rf"(?:^|;)\s*{re.escape(settings.cookie)}=([^;]*)")

    def given(self, headers: HeaderMap) -> str | None:
        """The id in the cookie, None where there is none that can be one."""
        found = self._pattern.search(headers.get(b"cookie", b"").decode("latin-1"))
        if found is None:
            return None
        try:
            return identifier("cookie", unquote(found.group(1).strip('" '), errors="strict"))
        except (InvalidInput, UnicodeDecodeError):
            return None

    def new(self) -> str:
        """An id nobody has."""
        return PREFIX + self._token(24)

    def allowed(self, body: Mapping[str, Any], headers: HeaderMap) -> bool:
        """Whether this visitor lets it be kept that they were here."""
        gpc = headers.get(b"sec-gpc")
        told = preferences_in(body.get("context"))
        return self._consents.read(told, None if gpc is None else gpc.decode("latin-1"))["analytics"]

    def complete(
        self, bodies: list[Any], headers: HeaderMap, scope: Mapping[str, Any]
    ) -> tuple[list[Any], Header | None]:
        """Events or requests of one browser with the cookie's id where they have no `anonymousId`.

        Also the header that sets the cookie: to a new id where nobody was named, or to the page's own where it has one.
        """
        if not any(name in headers for name in _BROWSER):
            return bodies, None
        known = self.given(headers)
        chosen = known
        found: list[Any] = []
        for body in bodies:
            if not isinstance(body, dict) or not self.allowed(body, headers):
                found.append(body)
                continue
            own = body.get("anonymousId")
            if own is not None:
                chosen = chosen or (own if isinstance(own, str) else None)
            elif chosen is None and not any(body.get(name) is not None for name in _IDS):
                chosen = self.new()
            found.append({**body, "anonymousId": chosen} if own is None and chosen is not None else body)
        return found, self.set(chosen, headers, scope) if known is None and chosen is not None else None

    def set(self, value: str | None, headers: HeaderMap, scope: Mapping[str, Any]) -> Header:
        """The header that sets the cookie for another while, or takes it back where the value is None."""
        s = self._settings
        age_s = 0 if value is None else int(s.max_age_days * 86_400)
        parts = [f"{s.cookie}={quote(value or '', safe='')}", f"Max-Age={age_s}", "Path=/", "HttpOnly"]
        parts.append(f"SameSite={s.same_site}")
        if s.domain is not None:
            parts.append(f"Domain={s.domain}")
        if s.secure == "always" or self._behind_tls(headers, scope):
            parts.append("Secure")
        return b"set-cookie", "; ".join(parts).encode("latin-1")

    def _behind_tls(self, headers: HeaderMap, scope: Mapping[str, Any]) -> bool:
        if scope.get("scheme") == "https":
            return True
        peer = scope.get("client")
        told = headers.get(b"x-forwarded-proto", b"").split(b",")[-1].strip().lower() == b"https"
        return told and peer is not None and self._proxies.trusts(peer[0])
