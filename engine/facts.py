"""The facts that a book's conditions read, worked out once: a decision collects these and no others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from engine.condition_model import TRAIT
from engine.features import INDEX
from engine.inputs import Inputs

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_OF_CONTEXT: Final = frozenset({"local_hour", "device", "os", "network", "browser", "locale", "country"})


class FactsRead:
    """Which of a visitor's features, traits and circumstances some conditions name. Verb: collect."""

    __slots__ = ("_context", "_features", "_traits")

    def __init__(self, names: Iterable[str] = ()) -> None:
        known = sorted(set(names))
        self._features = [(name, INDEX[name]) for name in known if name in INDEX]
        self._context = [name for name in known if name in _OF_CONTEXT]
        self._traits = [(name, name.removeprefix(TRAIT)) for name in known if name.startswith(TRAIT)]

    def collect(
        self, inputs: Inputs, conversion: float | None, churn: float, geofences: tuple[str, ...] | None, km: float
    ) -> dict[str, Any]:
        """The facts by name; stage, score and segments are found out later and put among them."""
        features, context, traits = inputs.features, inputs.context, inputs.traits
        weekday = context.get("weekday")
        facts: dict[str, Any] = {
            "conversion": conversion, "churn": churn, "geofence": geofences, "nearest_geofence_km": km,
            "weekday": None if weekday is None else WEEKDAYS[weekday], "cohort": inputs.cohorts,
            "placement": inputs.request.placement or None,
        }  # fmt: skip
        for name, index in self._features:
            facts[name] = features[index]
        for name in self._context:
            facts[name] = context.get(name)
        for name, trait in self._traits:
            facts[name] = traits.get(trait)
        return facts
