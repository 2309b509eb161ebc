"""Predictions through LightGBM's C library alone, for shards: one handle, preallocated buffers, no Python package."""

from __future__ import annotations

import ctypes
import threading
import weakref

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from training.card import ModelCard, sha256_of
from training.lightgbm_library import FLOAT64, NORMAL, LightGbm, library
from training.model_text import check_model_text

Floats = NDArray[np.float64]

_ONE_THREAD = b"num_threads=1"
_FEW = 5
"""Up to so many rows the single-row call is cheaper than preparing a matrix prediction (about 7 µs; measured)."""


class NativeBooster:
    """A LightGBM model loaded from its text. Safe to share between threads; close it or let it go.

    Raises InvalidInput `broken_model` for bytes that are not a whole one-class model.
    """

    def __init__(self, blob: bytes) -> None:
        self.header = check_model_text(blob)
        self.n_features = len(self.header.feature_names)
        self._library = library()
        self._lock = threading.Lock()
        self._model, self._fast = ctypes.c_void_p(), ctypes.c_void_p()
        self._close = weakref.finalize(self, _free, self._library, self._model, self._fast)
        check = self._library.check
        n_rounds, n_features = ctypes.c_int(), ctypes.c_int()
        check(self._library.load_model(blob, ctypes.byref(n_rounds), ctypes.byref(self._model)))
        check(self._library.n_features(self._model, ctypes.byref(n_features)))
        if n_features.value != self.n_features or n_rounds.value != self.header.n_trees:
            raise InvalidInput("broken_model", "LightGBM reads other counts of features or trees than the text states")
        check(
            self._library.prepare_row(
                self._model, NORMAL, 0, -1, FLOAT64, self.n_features, _ONE_THREAD, ctypes.byref(self._fast)
            )
        )
        self._rows = np.zeros((_FEW, self.n_features))
        self._row, self._shape = self._rows[0], (self.n_features,)
        self._answer, self._length = ctypes.c_double(), ctypes.c_int64()
        # Addresses are taken once: asking numpy for them costs as much as the prediction.
        self._answers = np.zeros(_FEW)
        self._calls = [
            (self._fast, self._rows[i].ctypes.data, ctypes.byref(self._length), self._answers[i:].ctypes.data)
            for i in range(_FEW)
        ]
        self._call = (self._fast, self._row.ctypes.data, ctypes.byref(self._length), ctypes.addressof(self._answer))

    @property
    def closed(self) -> bool:
        """Whether the handles have been given back."""
        return not self._close.alive

    def predict_one(self, row: Floats) -> float:
        """The probability for one row of shape (n_features,), NaN = missing; about 3 µs.

        Raises InvalidInput `broken_model` when the row has another length.
        """
        if row.shape != self._shape:
            raise self._wrong_shape(row.shape)
        with self._lock:
            if not self._fast.value:
                raise _closed()
            self._row[:] = row
            status = self._library.predict_row(*self._call)
            answer = self._answer.value
        if status:
            self._library.check(status)
        return answer

    def predict_many(self, rows: Floats) -> Floats:
        """The probabilities for rows of shape (n, n_features), as shape (n,)."""
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise self._wrong_shape(rows.shape)
        if len(rows) <= _FEW:
            return self._predict_few(rows)
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        answers = np.empty(len(rows))
        length = ctypes.c_int64()
        with self._lock:
            if not self._close.alive:
                raise _closed()
            status = self._library.predict_rows(
                self._model, rows.ctypes.data, FLOAT64, rows.shape[0], rows.shape[1], 1, NORMAL, 0, -1,
                _ONE_THREAD, ctypes.byref(length), answers.ctypes.data,
            )  # fmt: skip
        self._library.check(status)
        return answers

    def _predict_few(self, rows: Floats) -> Floats:
        call, n = self._library.predict_row, len(rows)
        with self._lock:
            if not self._fast.value:
                raise _closed()
            self._rows[:n] = rows
            for one in self._calls[:n]:
                if status := call(*one):
                    self._library.check(status)
            return self._answers[:n].copy()

    def close(self) -> None:
        """Give the model's memory back; predicting afterwards raises."""
        with self._lock:
            self._close()

    def _wrong_shape(self, shape: tuple[int, ...]) -> InvalidInput:
        found = "×".join(map(str, shape))
        return InvalidInput("broken_model", f"the model reads rows of {self.n_features} features; this is {found}")


def _free(lightgbm: LightGbm, model: ctypes.c_void_p, fast: ctypes.c_void_p) -> None:
    if fast.value is not None:
        lightgbm.free_row(fast)
    if model.value is not None:
        lightgbm.free_model(model)
    fast.value = model.value = None


def _closed() -> InvalidInput:
    return InvalidInput("broken_model", "the model has been closed")


class LightGbmPredictor:
    """A trained conversion model as the engine asks it: trees, then the calibration of its card.

    Raises InvalidInput `broken_model` when bytes and card do not belong together or are not a probability model.
    """

    kind = "lightgbm"

    def __init__(self, card: ModelCard, blob: bytes) -> None:
        if sha256_of(blob) != card.sha256:
            raise InvalidInput("broken_model", f"the bytes of model {card.version} do not match the sum in its card")
        self.card = card
        self.version = card.version
        self.schema_hash = card.schema_hash
        self._booster = NativeBooster(blob)
        if self._booster.n_features != len(card.features):
            raise InvalidInput(
                "broken_model",
                f"model {card.version} reads {self._booster.n_features} features, its card names {len(card.features)}",
            )
        if self._booster.header.objective.split(" ")[0] not in ("binary", "cross_entropy"):
            raise InvalidInput("broken_model", f"model {card.version} does not predict a probability")
        self._calibration = card.calibration
        self.predict_one(np.full(self._booster.n_features, np.nan))  # warm: the first call allocates

    def predict_one(self, row: Floats) -> float:
        """The probability for one row of shape (n_features,)."""
        p = self._booster.predict_one(row)
        return p if self._calibration is None else self._calibration.one(p)

    def predict_many(self, rows: Floats) -> Floats:
        """The probabilities for rows of shape (n, n_features), as shape (n,)."""
        p = self._booster.predict_many(rows)
        return p if self._calibration is None else self._calibration.many(p)

    def close(self) -> None:
        """Give the model's memory back once nothing predicts with it any more."""
        self._booster.close()
