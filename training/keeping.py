"""A window kept at what attribution knows; and by how many profiles, where more is decided than it holds."""

from __future__ import annotations

import logging
from typing import Final

from training.attribution import Attribution
from training.example import Example
from training.window import Window

log = logging.getLogger("kairos.learning")

LEAST_SHARE: Final = 2.0**-20


def keep(attribution: Attribution, window: Window) -> list[Example]:
    """Bring a window up to what was observed; gives the examples that are new or changed."""
    # What has matured, or was withdrawn, may go for what is new.
    told = window.amend(attribution.amended())
    opened = attribution.opened()
    attribution.drop(window.upsert(opened))
    return told + opened + window.amend(attribution.amended())


def keep_what_matures(attribution: Attribution, window: Window) -> list[Example]:
    """As `keep`, of half of the profiles where all would not stay until they mature; of more again when there is room.

    By profile, so that whoever is left out is left out with everything.
    """
    told = window.amend(attribution.amended())
    while (
        len(attribution.cases) > window.capacity and window.n_matured < window.room and attribution.share > LEAST_SHARE
    ):
        log.warning("more is decided than the window holds until it matures: half of the profiles are left out")
        attribution.thin()
        told += window.amend(attribution.amended())
    n_evicted = window.n_evicted
    told += keep(attribution, window)
    evicts = window.n_evicted > n_evicted
    if evicts and attribution.share < 1.0 and len(window) - window.n_matured < window.capacity // 8:
        attribution.share *= 2.0
    return told
