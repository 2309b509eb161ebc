"""Distances on the Earth, for geofences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Protocol

EARTH_KM: Final = 6371.0088


class Circle(Protocol):
    """A geofence: a centre in degrees and a radius in km."""

    @property
    def lat(self) -> float: ...

    @property
    def lon(self) -> float: ...

    @property
    def radius_km(self) -> float: ...


def distance_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """The great-circle distance in km between two points in degrees (haversine, mean Earth radius).

    >>> round(distance_km(52.52, 13.405, 48.8566, 2.3522))
    877
    """
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    a = math.sin((phi2 - phi1) / 2.0) ** 2
    a += math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2.0) ** 2
    return 2.0 * EARTH_KM * math.asin(min(1.0, math.sqrt(a)))


def nearest_geofence(geofences: Mapping[str, Circle], lat: float | None, lon: float | None) -> tuple[str | None, float]:
    """The geofence the point is inside of, if any, and the km to the edge of the nearest (0 inside, NaN unknown)."""
    if lat is None or lon is None or not geofences:
        return None, math.nan
    edges = [
        (max(0.0, distance_km(lat, lon, fence.lat, fence.lon) - fence.radius_km), name)
        for name, fence in geofences.items()
    ]
    km, name = min(edges)
    return (name if km == 0.0 else None), km
