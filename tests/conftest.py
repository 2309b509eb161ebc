"""What every test shares: examples may take as long as a busy machine needs to make them."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("kairos", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kairos")
