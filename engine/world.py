"""The world a decision is made in: frozen, versioned, swapped as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.compiled import CompiledBook
from engine.predictor import Predictor


@dataclass(frozen=True, slots=True)
class World:
    """The campaign book in force and the model that answers; `model` None is a world without predictions."""

    book: CompiledBook
    model: Predictor | None
    arm: str = "champion"

    @property
    def model_version(self) -> str:
        """The version every decision names."""
        return self.model.version if self.model is not None else "none"


def nearest_geofence(book: CompiledBook, context: dict[str, Any]) -> tuple[str | None, float]:
    """The geofence the visitor is inside of, if any, and the distance in km to the edge of the nearest (0 inside)."""
    lat, lon = context.get("lat"), context.get("lon")
    if lat is None or lon is None or not book.geofences:
        return None, float("nan")
    name, km = min(((f.name, f.distance_km(lat, lon)) for f in book.geofences), key=lambda pair: (pair[1], pair[0]))
    return (name if km == 0.0 else None), km
