"""What the tests of training share: one fitted model, and the folder of real data sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.training.builders import shoppers
from training.fit import Model, fit


@pytest.fixture(scope="session")
def model() -> Model:
    return fit(shoppers(), {"n_rounds": 40, "min_data_per_group": 20}, seed=3)


@pytest.fixture(scope="session")
def data_sets() -> Path:
    folder = Path(os.environ.get("KAIROS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the data sets are not here: {folder} is absent (name their folder in KAIROS_DATA)")
    return folder
