"""Small seeded tables for the tests of training."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.schema import MODEL_FEATURES, schema_hash
from training.table import Table


def shoppers(n: int = 600, seed: int = 7) -> Table:
    """Rows in the engine's layout: depth and cart convert, most other features are missing."""
    rng = np.random.default_rng(seed)
    x = np.full((n, len(MODEL_FEATURES)), np.nan)
    depth, cart, device = rng.random(n), rng.integers(0, 3, n), rng.integers(1, 4, n).astype(float)
    for name, values in (("depth", depth), ("n_cart_items", cart), ("device_code", device)):
        x[:, MODEL_FEATURES.index(name)] = values
    x[rng.random(n) < 0.1, MODEL_FEATURES.index("depth")] = np.nan
    z = -2.5 + 1.5 * depth + 0.9 * cart + 0.8 * (device == 3)
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.float64)
    return Table(MODEL_FEATURES, x, y, schema_hash(), servable=True, categorical=("device_code", "offer_code"))


def rows_with_gaps(n: int, seed: int) -> NDArray[np.float64]:
    """Rows in the engine's layout with missing values, codes never seen, and extremes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=3.0, size=(n, len(MODEL_FEATURES)))
    x[:, MODEL_FEATURES.index("device_code")] = rng.integers(-1, 400, n)
    x[:, MODEL_FEATURES.index("n_cart_items")] = rng.integers(0, 4, n)
    x[rng.random(x.shape) < 0.3] = np.nan
    x[0], x[1, 0], x[2, 0] = np.nan, 1e300, -0.0
    return np.ascontiguousarray(x)


def write(path: Path, lines: list[str], packed: bool = False) -> Path:
    """A table file of these lines."""
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


def csv_lines(n: int = 200, separator: str = ",", header: str = "depth,shop,bought") -> list[str]:
    """A CSV where deep visits buy more often; a third of the rows convert."""
    rows = [f"{(i % 97) / 97:.4f},{'north' if i % 2 else 'south'},{int((i * 37) % 97 > 64)}" for i in range(n)]
    return [line.replace(",", separator) for line in (header, *rows)]
