"""What a visitor agreed to: Segment's consent preferences and the Global Privacy Control header."""

from __future__ import annotations

from typing import Final

from serving.settings_branches import ConsentDefaults

CATEGORIES: Final = ("analytics", "personalisation", "training")


class ConsentReader:
    """Reads consent into {"analytics", "personalisation", "training"}: what is not said is the settings' default."""

    def __init__(self, defaults: ConsentDefaults) -> None:
        self._defaults = {name: bool(getattr(defaults, name)) for name in CATEGORIES}

    def read(self, preferences: object, sec_gpc: str | None = None) -> dict[str, bool]:
        """Consent from `context.consent.categoryPreferences`; `Sec-GPC: 1` means no personalisation, no training.

        Nobody changes what it returns.
        """
        if not preferences and sec_gpc is None:
            return self._defaults
        consent = self._defaults.copy()
        if isinstance(preferences, dict):
            for name in CATEGORIES:
                if isinstance(given := preferences.get(name), bool):
                    consent[name] = given
            if isinstance(given := preferences.get("personalization"), bool) and "personalisation" not in preferences:
                consent["personalisation"] = given
        if sec_gpc is not None and sec_gpc.strip() == "1":
            consent["personalisation"] = consent["training"] = False
        return consent


def preferences_in(context: object) -> object:
    """The category preferences inside a raw context, if it has any."""
    # Not any `Mapping`: JSON knows no other, and to ask for that takes ten times as long.
    consent = context.get("consent") if isinstance(context, dict) else None
    return consent.get("categoryPreferences") if isinstance(consent, dict) else None
