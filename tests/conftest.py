"""What every test shares: examples may take as long as a busy machine needs, and there is one Ray at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SERVING = Path(__file__).parent / "serving"

settings.register_profile("kairos", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kairos")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests of serving start a Ray each and measure how it answers: one after the other, others beside them."""
    for item in items:
        if item.path.is_relative_to(SERVING) and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group("ray"))
