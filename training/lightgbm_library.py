"""LightGBM's shared library by ctypes: 0.2 s and 31 MB where importing the Python package costs 3–6 s and 158 MB."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from engine.errors import InvalidInput, KairosError

NORMAL: Final = 0
"""C_API_PREDICT_NORMAL: probabilities, not raw scores."""
FLOAT64: Final = 1
"""C_API_DTYPE_FLOAT64."""

_SUFFIX: Final = {"win32": "dll", "darwin": "dylib"}


def library_path() -> Path:
    """Where the installed lightgbm package keeps its shared library; the package itself is not executed.

    Raises KairosError `lightgbm_missing` when the package or its library is not there.
    """
    spec = find_spec("lightgbm")
    name = f"lib_lightgbm.{_SUFFIX.get(sys.platform, 'so')}"
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in (Path(folder, "lib", name), Path(folder, "bin", name)):
            if path.is_file():
                return path
    raise KairosError("lightgbm_missing", f"{name} was not found: install the Python package lightgbm")


@cache
def library() -> LightGbm:
    """The library, loaded once a process on first use (after any fork: OpenMP and fork do not mix)."""
    return LightGbm(library_path())


class LightGbm:
    """The few calls of LightGBM's C API that prediction needs, with their types declared.

    Source: LightGBM 4.x, include/LightGBM/c_api.h. Raises KairosError `libgomp_missing` where the system lacks the
    OpenMP runtime, `lightgbm_unloadable` for any other reason why the loader refuses the file.
    """

    def __init__(self, path: Path) -> None:
        # The single-row call lasts 2 µs. PyDLL keeps the interpreter lock during it: giving the lock away could cost
        # the 5 ms after which another busy thread returns it.
        try:
            brief, long = ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
        except OSError as error:
            raise _unloadable(path, error) from error
        pointer, text, whole = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        out_handle, out_length = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int64)
        self.load_model = _declare(long, "LGBM_BoosterLoadModelFromString", text, ctypes.POINTER(whole), out_handle)
        self.free_model = _declare(long, "LGBM_BoosterFree", pointer)
        self.n_features = _declare(long, "LGBM_BoosterGetNumFeature", pointer, ctypes.POINTER(whole))
        self.n_classes = _declare(long, "LGBM_BoosterGetNumClasses", pointer, ctypes.POINTER(whole))
        self.predict_rows = _declare(
            long, "LGBM_BoosterPredictForMat", pointer, pointer, whole, ctypes.c_int32, ctypes.c_int32, whole,
            whole, whole, whole, text, out_length, pointer,
        )  # fmt: skip
        self.prepare_row = _declare(
            long, "LGBM_BoosterPredictForMatSingleRowFastInit", pointer, whole, whole, whole, whole,
            ctypes.c_int32, text, out_handle,
        )  # fmt: skip
        self.predict_row = _declare(
            brief, "LGBM_BoosterPredictForMatSingleRowFast", pointer, pointer, out_length, pointer
        )
        self.free_row = _declare(long, "LGBM_FastConfigFree", pointer)
        self._last_error = long.LGBM_GetLastError
        self._last_error.restype = text

    def check(self, status: int) -> None:
        """Raise InvalidInput `broken_model` with the library's own words unless a call returned 0."""
        if status != 0:
            words = (self._last_error() or b"").decode("utf-8", "replace")
            raise InvalidInput("broken_model", f"LightGBM refused the model: {words}")


def _declare(library: ctypes.CDLL, name: str, *types: type) -> ctypes._NamedFuncPointer:
    function = getattr(library, name)
    function.argtypes = types
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


def _unloadable(path: Path, error: OSError) -> KairosError:
    if "libgomp" in str(error):
        return KairosError(
            "libgomp_missing",
            "LightGBM needs the system's OpenMP runtime libgomp.so.1: "
            "install it with `apt-get install libgomp1` (Debian, Ubuntu)",
        )
    return KairosError("lightgbm_unloadable", f"{path.name} cannot be loaded: {error}")
