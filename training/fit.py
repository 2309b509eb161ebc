"""Fitting the conversion model: the one file that imports lightgbm, and only when something is fitted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from training.calibration import Isotonic, Platt
from training.card import Metrics, ModelCard, sha256_of, version_of
from training.native import LightGbmPredictor
from training.table import Table

Parameters = Mapping[str, float | int | str | bool]
Told = Callable[[float], None]
"""Hears the share of the work that is done."""

DEFAULTS: Final[Parameters] = {
    "objective": "binary",
    "n_rounds": 80,
    "learning_rate": 0.075,
    "num_leaves": 15,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "n_threads": 1,
}
"""Small steps with shallow trees: conversions are rare and noisy, and scores must not jump between versions.

200 trees in steps of 0.03 predict two real tables no better and cost two and a half times as much (CHANGELOG).

`n_rounds` and `n_threads` are LightGBM's num_iterations and num_threads; `min_data_in_leaf` comes from the rows.
Every other parameter of LightGBM may be given, except those that `_FIXED` holds.
"""
_FIXED: Final[Parameters] = {"deterministic": True, "force_row_wise": True, "verbosity": -1}

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]+")


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted model: its card, and its bytes (LightGBM's text format)."""

    card: ModelCard
    blob: bytes

    def predictor(self) -> LightGbmPredictor:
        """Loaded and ready to answer."""
        return LightGbmPredictor(self.card, self.blob)


@dataclass(frozen=True, slots=True)
class Trees:
    """What a fit gives: the model's bytes, and each feature's share of the total gain, shape (n_features,)."""

    blob: bytes
    gain_share: NDArray[np.float64]


def fit(
    table: Table,
    params: Parameters | None = None,
    seed: int = 0,
    *,
    calibration: Platt | Isotonic | None = None,
    metrics: Metrics | None = None,
    created_ms: int = 0,
) -> Model:
    """Fit on the whole table. The same table, parameters and seed give the same bytes and the same version.

    `calibration` and `metrics` come from held-out rows (`training.train`) and are written into the card.
    """
    parameters = parameters_for(len(table.y), params, seed)
    return describe(table, fit_trees(table, parameters), parameters, seed, calibration, metrics, created_ms)


def describe(
    table: Table, trees: Trees, parameters: Parameters, seed: int,
    calibration: Platt | Isotonic | None = None, metrics: Metrics | None = None, created_ms: int = 0,
) -> Model:  # fmt: skip
    """The model that trees fitted on this table are, with its card."""
    times = table.times
    card = ModelCard(
        version=version_of(trees.blob, table.schema_hash, calibration),
        created_ms=created_ms, features=table.features, schema_hash=table.schema_hash,
        categories=dict(table.categories or {}), label=table.label, positive=table.positive,
        n_rows=len(table.y), n_positive=int(table.y.sum()),
        data_first_ms=None if times is None else int(times[0]), data_last_ms=None if times is None else int(times[-1]),
        metrics=metrics, parameters=dict(parameters), seed=seed, sha256=sha256_of(trees.blob), source=table.source,
        servable=table.servable, why_not=table.why_not, calibration=calibration,
    )  # fmt: skip
    return Model(card, trees.blob)


def parameters_for(n_rows: int, params: Parameters | None, seed: int) -> dict[str, float | int | str | bool]:
    """The defaults, what depends on the size of the table, and what the caller wants otherwise."""
    fitting = {"min_data_in_leaf": int(np.clip(n_rows // 100, 5, 40))}
    return {**DEFAULTS, **fitting, **(params or {}), **_FIXED, "seed": seed}


def fit_trees(
    table: Table, parameters: Parameters, rows: NDArray[np.int64] | None = None, told: Told | None = None
) -> Trees:
    """Fit on some rows of a table (all if none are named). Raises InvalidInput `bad_parameters`.

    `rows` are places in the table, shape (n_rows,). `told` hears after each tree which share of them is grown; what it
    raises ends the fit.
    """
    import lightgbm

    names = list(table.features)
    if not all(_PLAIN_NAME.fullmatch(name) for name in names) or len(set(names)) < len(names):
        names = [f"column_{index}" for index in range(len(names))]  # LightGBM allows no spaces or JSON in names
    x, y = (table.x, table.y) if rows is None else (table.x[rows], table.y[rows])
    given = dict(parameters)
    n_rounds, given["num_threads"] = int(given.pop("n_rounds")), int(given.pop("n_threads"))
    try:
        data = lightgbm.Dataset(
            x, y, params=given, feature_name=names, free_raw_data=True,
            categorical_feature=[table.features.index(name) for name in table.categorical],
        )  # fmt: skip
        callbacks = None if told is None else [lambda at: told((at.iteration + 1) / at.end_iteration)]
        booster = lightgbm.train(given, data, num_boost_round=n_rounds, callbacks=callbacks)
    except lightgbm.basic.LightGBMError as error:
        raise InvalidInput("bad_parameters", f"LightGBM refuses to fit: {error}") from error
    gain = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
    text: str = booster.model_to_string(num_iteration=-1)
    return Trees(text.encode(), gain / gain.sum() if gain.sum() > 0 else gain)


def refit_trees(
    blob: bytes, x: NDArray[np.float64], y: NDArray[np.float64], decay: float, parameters: Parameters
) -> Trees:
    """The same trees with leaves moved towards newer rows, `x` of shape (n, n_features) and `y` (n,): no tree is added.

    A leaf becomes decay · old + (1 − decay) · new; one that no row reaches stays. Raises InvalidInput `bad_parameters`.
    """
    if len(y) == 0:
        raise InvalidInput("bad_parameters", "there are no rows to refit on")
    import lightgbm

    given: dict[str, Any] = {key: parameters[key] for key in ("lambda_l2", *_FIXED)}
    try:
        booster = lightgbm.Booster(model_str=blob.decode())
        moved = booster.refit(x, y, decay_rate=decay, num_threads=int(parameters["n_threads"]), **given)
    except lightgbm.basic.LightGBMError as error:
        raise InvalidInput("bad_parameters", f"LightGBM refuses to refit: {error}") from error
    gain = np.asarray(moved.feature_importance("gain"), dtype=np.float64)
    text: str = moved.model_to_string(num_iteration=-1)
    return Trees(text.encode(), gain / gain.sum() if gain.sum() > 0 else gain)
