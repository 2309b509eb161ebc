"""What most tracks have of some things, shared between all of them: a profile in memory is paid for by the byte."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, cast

NOTHING: Final[list[Any]] = []
"""What most tracks have of some things: one list for all of them, never written to."""
NO_ENTRIES: Final[dict[Any, Any]] = cast("dict[Any, Any]", MappingProxyType({}))
"""The same for entries by name; whoever tries to write to it is told."""
NO_PAST: Final = [0.0] * 6
"""The averages (`engine.track.PAST`) of nobody's sessions, never written to."""
