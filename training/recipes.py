"""The words of learning that everybody uses: how a candidate is made, and what it predicts."""

from __future__ import annotations

from typing import Literal

Recipe = Literal["retrain", "refit"]
"""Trees grown anew on the window, or the champion's trees with their leaves moved towards the newest rows."""
Target = Literal["conversion", "churn"]
