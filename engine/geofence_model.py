"""A geofence as the book writes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from engine.condition_model import Number, Part
from engine.geo import Circle, Fence, Polygon

Latitude = Annotated[Number, Field(ge=-90.0, le=90.0)]
Longitude = Annotated[Number, Field(ge=-180.0, le=180.0)]


class Geofence(Part):
    """A part of the earth: a circle by centre and radius, or a polygon by its corners [lat, lon]."""

    lat: Latitude | None = None
    lon: Longitude | None = None
    radius_km: Annotated[Number, Field(gt=0.0, le=20_000.0)] | None = None
    polygon: Annotated[tuple[tuple[Latitude, Longitude], ...], Field(max_length=500)] | None = None

    def shape(self) -> Fence:
        """The fence itself; the checks of the book have seen that it is one or the other, and whole."""
        if self.polygon is not None:
            return Polygon(self.polygon)
        return Circle(self.lat or 0.0, self.lon or 0.0, self.radius_km or 0.0)
