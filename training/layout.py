"""The layout of a table's features: the engine's, where its columns are the engine's, or else the table's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np

from engine.schema import CATEGORICAL, MODEL_FEATURES, schema_hash
from training.cells import Column
from training.encode import ENGINE_LABELS, Encoded, encode, encode_engine_labels, encode_number, encode_offer

_SHARE: Final = (0.0, 1.0)
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "recency": _SHARE,
    "depth": _SHARE,
    "scroll_share": _SHARE,
    "scroll_share_max": _SHARE,
    "scroll_completion_rate": _SHARE,
    "past_scroll_share": _SHARE,
    "past_conversion_rate": _SHARE,
    "local_hour": (0.0, 24.0),
    "weekday": (0.0, 7.0),
}
"""Features of the engine that can hold nothing else. A column by the same name beyond them means something else."""
_STRAY: Final = 0.01

_NO_FEATURE: Final = (
    "none of its columns is a feature of the engine, so no live visitor has the values it was trained on; "
    "name columns as in engine.schema.MODEL_FEATURES to get a model that serves"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns to learn from, in order, encoded; the hash of their names, order and codes; and if it can serve."""

    columns: dict[str, Encoded]
    schema_hash: str
    servable: bool
    why_not: str | None
    notes: tuple[str, ...]

    @property
    def categorical(self) -> tuple[str, ...]:
        """The features that hold codes."""
        return tuple(n for n, e in self.columns.items() if e.labels is not None or (self.servable and n in CATEGORICAL))

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The labels of the features with a closed set of them, in code order."""
        return {name: e.labels for name, e in self.columns.items() if e.labels is not None}


def lay_out(columns: Mapping[str, Column], n_rows: int) -> Layout:
    """The engine's layout if at least one column is a feature of the engine and none contradicts it."""
    shared = [name for name in MODEL_FEATURES if name in columns]
    if not shared:
        return _own(columns, _NO_FEATURE)
    encoded = {name: _engine_column(name, columns.get(name), n_rows) for name in MODEL_FEATURES}
    stranger = next((text for name in shared if (text := _contradiction(name, encoded[name]))), None)
    if stranger:
        return _own(columns, stranger)
    notes = [e.note for e in encoded.values() if e.note]
    ignored = [name for name in columns if name not in shared]
    if ignored:
        notes.append(f"not features of the engine, ignored: {', '.join(ignored)}")
    return Layout(encoded, schema_hash(), True, None, tuple(notes))


def _own(columns: Mapping[str, Column], why_not: str) -> Layout:
    encoded = {name: encode(name, column) for name, column in columns.items()}
    kept = {name: e for name, e in encoded.items() if e.left_out is None}
    parts = [f"{name}={'|'.join(e.labels or ())}" for name, e in kept.items()]
    own_hash = blake2b("\n".join(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()
    return Layout(kept, own_hash, False, why_not, tuple(e.left_out for e in encoded.values() if e.left_out))


def _engine_column(name: str, column: Column | None, n_rows: int) -> Encoded:
    """A feature of the engine; one that the table lacks is missing throughout."""
    if column is None:
        return Encoded(np.full(n_rows, np.nan), ENGINE_LABELS.get(name))
    if name in ENGINE_LABELS:
        return encode_engine_labels(name, column)
    return encode_offer(name, column) if name == "offer_code" else encode_number(name, column)


def _contradiction(name: str, encoded: Encoded) -> str | None:
    known = encoded.values[~np.isnan(encoded.values)]
    low, high = RANGES.get(name, (-np.inf, np.inf))
    if len(encoded.faults) > len(known):
        return f"its column {name!r} shares the name of a feature of the engine but holds text"
    if ((known < low) | (known > high)).sum() > _STRAY * len(known):
        return (
            f"its column {name!r} shares the name of a feature of the engine, which lies within {low:g} and {high:g}, "
            f"but holds values from {known.min():g} to {known.max():g}: it measures something else"
        )
    return None
