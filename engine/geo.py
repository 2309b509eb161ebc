"""Geofences: circles and polygons on the Earth, whether a point lies in one, and how far it is from its edge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

EARTH_KM: Final = 6371.0088
Point = tuple[float, float]
"""(latitude, longitude) in degrees."""


class Fence(Protocol):
    """A part of the Earth's surface."""

    def edge_km(self, lat: float, lon: float) -> float:
        """The km from a point to the edge, 0 inside."""
        ...


@dataclass(frozen=True, slots=True)
class Circle:
    """A geofence around a centre."""

    lat: float
    lon: float
    radius_km: float

    def edge_km(self, lat: float, lon: float) -> float:
        """See `Fence`."""
        return max(0.0, distance_km(lat, lon, self.lat, self.lon) - self.radius_km)


class Polygon:
    """A geofence within corners joined by lines that are straight in latitude and longitude, as GeoJSON draws them.

    It may lie across the 180th meridian, and not around a pole. Source: RFC 7946, 3.1.1 (the straight lines),
    3.1.9 (the meridian); the even–odd rule (Shimrat 1962, CACM algorithm 112).
    """

    __slots__ = ("_corners", "_high", "_low", "_west")

    def __init__(self, corners: Sequence[Point]) -> None:
        # Longitudes are counted from the first corner, so that the 180th meridian is nothing special.
        self._west = corners[0][1]
        xs = unrolled([lon for _, lon in corners])
        self._corners = [(lat, x - self._west) for (lat, _), x in zip(corners, xs, strict=True)]
        self._low = (min(lat for lat, _ in self._corners), min(x for _, x in self._corners))
        self._high = (max(lat for lat, _ in self._corners), max(x for _, x in self._corners))

    def contains(self, lat: float, lon: float) -> bool:
        """Whether the point is inside; on the edge either may be said."""
        x = self._x(lon)
        if not (self._low[0] <= lat <= self._high[0] and self._low[1] <= x <= self._high[1]):
            return False
        inside = False
        a = self._corners[-1]
        for b in self._corners:
            if (a[0] > lat) != (b[0] > lat) and x < (b[1] - a[1]) * (lat - a[0]) / (b[0] - a[0]) + a[1]:
                inside = not inside
            a = b
        return inside

    def edge_km(self, lat: float, lon: float) -> float:
        """See `Fence`: the great circle to the nearest point of each side, found in the plane around the point."""
        if self.contains(lat, lon):
            return 0.0
        x, shrink = self._x(lon), max(1e-9, math.cos(math.radians(lat)))
        best = math.inf
        a = self._corners[-1]
        for b in self._corners:
            dy, dx = b[0] - a[0], (b[1] - a[1]) * shrink
            length = dy * dy + dx * dx
            t = 0.0 if length == 0.0 else ((lat - a[0]) * dy + (x - a[1]) * shrink * dx) / length
            t = min(1.0, max(0.0, t))
            near = a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])
            best = min(best, distance_km(lat, x, *near))
            a = b
        return best

    def _x(self, lon: float) -> float:
        # Of the turns of the globe the one in which the point is nearest to the fence.
        x = (lon - self._west) % 360.0
        middle = (self._low[1] + self._high[1]) / 2.0
        return x - 360.0 * round((x - middle) / 360.0)


def unrolled(lons: Iterable[float]) -> list[float]:
    """Longitudes without the jump at the 180th meridian: each within half a turn of the one before.

    >>> unrolled([179.0, -179.0])
    [179.0, 181.0]
    """
    found: list[float] = []
    for lon in lons:
        found.append(lon if not found else lon - 360.0 * round((lon - found[-1]) / 360.0))
    return found


def distance_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """The great-circle distance in km between two points in degrees (haversine, mean Earth radius).

    >>> round(distance_km(52.52, 13.405, 48.8566, 2.3522))
    877
    """
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    a = math.sin((phi2 - phi1) / 2.0) ** 2
    a += math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2.0) ** 2
    return 2.0 * EARTH_KM * math.asin(min(1.0, math.sqrt(a)))


def geofences_at(
    fences: Mapping[str, Fence], lat: float | None, lon: float | None
) -> tuple[tuple[str, ...] | None, float]:
    """Every geofence the point is inside of, and the km to the edge of the nearest (0 inside).

    None and NaN where the place is not known or there are no geofences.
    """
    if lat is None or lon is None or not fences:
        return None, math.nan
    edges = {name: fence.edge_km(lat, lon) for name, fence in fences.items()}
    return tuple(name for name, km in edges.items() if km == 0.0), min(edges.values())


def nearest_geofence(fences: Mapping[str, Fence], lat: float | None, lon: float | None) -> tuple[str | None, float]:
    """The first geofence the point is inside of, if any, and the km as in `geofences_at`."""
    inside, km = geofences_at(fences, lat, lon)
    return (inside[0] if inside else None), km


def crossing(corners: Sequence[Point]) -> tuple[int, int] | None:
    """The first two sides that cross or touch where they should not, as the indexes of their first corners."""
    xs = unrolled([lon for _, lon in corners])
    points = [(lat, x) for (lat, _), x in zip(corners, xs, strict=True)]
    n = len(points)
    for i in range(n):
        for j in range(i + 1, n):
            if j in (i + 1, (i - 1) % n) or (i == 0 and j == n - 1):
                continue
            if _cross(points[i], points[(i + 1) % n], points[j], points[(j + 1) % n]):
                return i, j
    return None


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    return _side(a, b, c) * _side(a, b, d) <= 0 and _side(c, d, a) * _side(c, d, b) <= 0


def _side(a: Point, b: Point, c: Point) -> int:
    turn = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return (turn > 0) - (turn < 0)
