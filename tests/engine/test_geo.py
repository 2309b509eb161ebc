"""Geofences: circles and polygons, inside and how far."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import BookInvalid, compile_book, load_book
from engine.geo import Circle, Polygon, distance_km, geofences_at

SQUARE = Polygon([(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)])
L_SHAPE = Polygon([(0, 0), (0, 3), (1, 3), (1, 1), (3, 1), (3, 0)])


@pytest.mark.parametrize(
    ("lat", "lon", "inside"),
    [(0.5, 0.5, True), (0.5, 1.5, False), (-0.1, 0.5, False), (0.999, 0.001, True), (50.0, 0.5, False)],
)
def test_a_point_lies_in_a_square_or_not(lat: float, lon: float, inside: bool) -> None:
    assert SQUARE.contains(lat, lon) is inside
    assert (SQUARE.edge_km(lat, lon) == 0.0) is inside


def test_the_notch_of_a_polygon_is_outside() -> None:
    assert L_SHAPE.contains(0.5, 2.5)
    assert L_SHAPE.contains(2.5, 0.5)
    assert not L_SHAPE.contains(2.0, 2.0)
    assert L_SHAPE.edge_km(2.0, 2.0) == pytest.approx(distance_km(2.0, 2.0, 2.0, 1.0), rel=0.01)


def test_a_polygon_may_lie_across_the_date_line() -> None:
    fiji = Polygon([(-20, 177), (-20, -178), (-15, -178), (-15, 177)])
    assert fiji.contains(-17, 179.9)
    assert fiji.contains(-17, -179.9)
    assert not fiji.contains(-17, 0.0)
    assert not fiji.contains(-17, 176.0)
    assert fiji.edge_km(-17, 176.0) == pytest.approx(distance_km(-17, 176, -17, 177), rel=0.01)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-80, 80), st.floats(-180, 180), st.floats(0.01, 2), st.floats(-3, 3), st.floats(-3, 3),
    st.integers(0, 3), st.booleans(),
)  # fmt: skip
def test_a_box_holds_what_lies_between_its_sides(
    lat: float, lon: float, half: float, dy: float, dx: float, first: int, backwards: bool
) -> None:
    corners = [(lat - half, lon - half), (lat - half, lon + half), (lat + half, lon + half), (lat + half, lon - half)]
    corners = corners[first:] + corners[:first]
    wrapped = [(y, (x + 180) % 360 - 180) for y, x in (corners[::-1] if backwards else corners)]
    polygon, point = Polygon(wrapped), (lat + dy, (lon + dx + 180) % 360 - 180)
    if min(abs(abs(dy) - half), abs(abs(dx) - half)) > 1e-6:
        assert polygon.contains(*point) is (abs(dy) < half and abs(dx) < half)
    # Never further than to a corner, and nothing at all inside.
    assert 0.0 <= polygon.edge_km(*point) <= min(distance_km(*point, *corner) for corner in wrapped) + 1e-6


def test_every_fence_that_holds_the_point_is_named() -> None:
    fences = {"city": Circle(52.52, 13.405, 20), "shop": SQUARE, "mitte": Circle(52.52, 13.405, 3)}
    assert geofences_at(fences, 52.52, 13.41) == (("city", "mitte"), 0.0)
    inside, km = geofences_at(fences, 52.70, 13.41)
    assert inside == ()
    assert km == pytest.approx(0.02, abs=0.05)
    assert geofences_at(fences, None, None)[0] is None
    assert math.isnan(geofences_at({}, 1.0, 1.0)[1])


def book(**fence: Any) -> dict[str, Any]:
    offer = {"when": {"geofence": ["place"]}, "content": "x"}
    return {"geofences": {"place": fence}, "campaigns": {"c": {"placements": ["p"], "offers": {"o": offer}}}}


def test_a_book_may_draw_a_polygon() -> None:
    read = compile_book(load_book(book(polygon=[[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]])), "v")
    assert geofences_at(read.geofences, 0.5, 0.5) == (("place",), 0.0)


@pytest.mark.parametrize(
    ("fence", "path", "code"),
    [
        ({"lat": 1, "lon": 1}, "geofences.place.radius_km", "missing"),
        ({"lat": 1, "polygon": [[0, 0], [0, 1], [1, 1]]}, "geofences.place.lat", "circle_and_polygon"),
        ({"polygon": [[0, 0], [0, 1], [0, 0]]}, "geofences.place.polygon", "too_few_corners"),
        ({"polygon": [[0, 0], [1, 1], [0, 1], [1, 0]]}, "geofences.place.polygon[2]", "sides_cross"),
        ({"polygon": [[80, 0], [80, 120], [80, -120]]}, "geofences.place.polygon", "around_pole"),
        ({"polygon": [[95, 0], [0, 1], [1, 1]]}, "geofences.place.polygon[0][0]", "out_of_range"),
    ],
)  # fmt: skip
def test_a_fence_that_is_none_is_named_with_its_place(fence: dict[str, Any], path: str, code: str) -> None:
    with pytest.raises(BookInvalid) as raised:
        load_book(book(**fence))
    assert [(f.path, f.code) for f in raised.value.findings] == [(path, code)]
