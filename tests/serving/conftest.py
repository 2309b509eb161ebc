"""Fixtures of the HTTP tests."""

from __future__ import annotations

import pytest

from tests.serving.house import House


@pytest.fixture
def house() -> House:
    """An open Kairos on loopback."""
    return House()
