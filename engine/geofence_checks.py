"""Geofences checked: each a whole circle or a polygon that encloses something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.findings import Findings, Loc
from engine.geo import crossing, unrolled

_CIRCLE: Final = ("lat", "lon", "radius_km")
N_CORNERS: Final = 500


def check_geofences(geofences: Mapping[str, Any], findings: Findings) -> None:
    """Add a finding for every fence that is neither, both, or no area."""
    for name, raw in geofences.items():
        if isinstance(raw, Mapping):
            _check(raw, ("geofences", name), findings)


def _check(raw: Mapping[str, Any], loc: Loc, findings: Findings) -> None:
    given = [key for key in _CIRCLE if raw.get(key) is not None]
    if raw.get("polygon") is None:
        for key in _CIRCLE:
            if key not in given:
                findings.add((*loc, key), "missing", f"{key} here (or a polygon of corners [lat, lon])", found=None)
        return
    if given:
        findings.add((*loc, given[0]), "circle_and_polygon", "a circle or a polygon, not both", found=given[0])
    corners = _corners(raw["polygon"])
    if corners is None:
        return
    at = (*loc, "polygon")
    if len(corners) > 1 and corners[0] == corners[-1]:
        corners = corners[:-1]  # GeoJSON repeats the first corner at the end.
    if len(set(corners)) < 3:
        findings.add(at, "too_few_corners", "at least 3 different corners [lat, lon]", found=len(set(corners)))
        return
    turns = unrolled([lon for _, lon in [*corners, corners[0]]])
    if abs(turns[-1] - turns[0]) > 1.0:
        findings.add(at, "around_pole", "a polygon that does not go around a pole", found="one that does")
    elif (sides := crossing(corners)) is not None:
        i, j = sides
        expected = "sides that do not cross (list the corners in order around the edge)"
        findings.add((*at, j), "sides_cross", expected, found=f"the side from corner {j} crosses that from {i}")


def _corners(raw: Any) -> list[tuple[float, float]] | None:
    """The corners, or None where the types are wrong and are told as such."""
    if not isinstance(raw, list) or len(raw) > N_CORNERS:
        return None
    found = []
    for corner in raw:
        if not isinstance(corner, list) or len(corner) != 2:
            return None
        lat, lon = corner
        if type(lat) not in (int, float) or type(lon) not in (int, float):
            return None
        found.append((float(lat), float(lon)))
    return found
