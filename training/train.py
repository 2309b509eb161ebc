"""From a table to a model with an honest card: what `kairos train --from FILE --label COL` does."""

from __future__ import annotations

import time as clock
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import InvalidInput
from training.calibration import Method, fit_calibration
from training.card import Metrics, ModelCard, measure
from training.fit import Model, Parameters, describe, fit_trees, parameters_for
from training.holdout import cross_calibrated, last_in_time, predict_held_out, stratified
from training.leakage import Leak, find_leaks
from training.rows import BadRow
from training.table import Table, read_table

MODEL_FILE, CARD_FILE = "model.txt", "card.json"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The model with its card, how it did on held-out rows, and what a person should look at.

    `notes` are about columns, `leaks` about columns that are too good, `bad` about rows left out.
    """

    model: Model
    metrics: Metrics
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...]
    bad: tuple[BadRow, ...]

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.model.card


def train_from_table(
    path: Path | str,
    label: str,
    positive: str | None = None,
    drop: Collection[str] = (),
    cv: int = 5,
    time_order: bool = False,
    seed: int = 0,
    *,
    time: str | None = None,
    calibration: Method = "none",
    params: Parameters | None = None,
    created_ms: int | None = None,
) -> TrainResult:
    """Read a table, measure on held-out rows, look for leakage, fit on everything.

    Held out are `cv` stratified folds; with `time_order` (rows are in time order as they stand) or `time` (the column
    to sort by; not a feature) the last 1/`cv` of the rows instead. `created_ms` is now unless given.
    Raises InvalidInput as `read_table` does, and `bad_parameters`.
    """
    table = read_table(Path(path), label, positive, drop, time)
    created = clock.time_ns() // 1_000_000 if created_ms is None else created_ms
    return train(table, cv, time_order or time is not None, seed, calibration=calibration, params=params,
                 created_ms=created)  # fmt: skip


def train(
    table: Table,
    cv: int = 5,
    time_order: bool = False,
    seed: int = 0,
    *,
    calibration: Method = "none",
    params: Parameters | None = None,
    created_ms: int = 0,
) -> TrainResult:
    """The same from a table in memory; deterministic. Raises InvalidInput `bad_parameters`, `one_class`."""
    if cv < 2:
        raise InvalidInput("bad_parameters", f"cv is {cv}: at least 2 parts are needed to hold one out")
    parameters = parameters_for(len(table.y), params, seed)
    plan = last_in_time(len(table.y), cv) if time_order else stratified(table.y, cv, seed)
    held = plan.fold >= 0
    y, fold = table.y[held], plan.fold[held]
    if len(np.unique(y)) < 2 or (time_order and len(np.unique(table.y[~held])) < 2):
        raise InvalidInput("one_class", f"{plan.scheme}: only one class on one side of the split")
    raw = predict_held_out(table, parameters, plan)[held]
    metrics = measure(y, cross_calibrated(calibration, raw, y, fold), plan.scheme, fold)
    trees = fit_trees(table, parameters)
    leaks = find_leaks(table, parameters, plan, metrics.auc, trees.gain_share)
    learned = fit_calibration(calibration, raw, y)
    model = describe(table, trees, parameters, seed, learned, metrics, created_ms)
    return TrainResult(model, metrics, leaks, _notes(table, metrics), table.bad)


def write_model(result: TrainResult | Model, folder: Path | str) -> None:
    """Write `model.txt` and `card.json` into a folder, made if absent."""
    model = result.model if isinstance(result, TrainResult) else result
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(model.blob)
    (folder / CARD_FILE).write_bytes(model.card.to_json())


def read_model(folder: Path | str) -> Model:
    """Read what `write_model` wrote; the model is checked when its predictor is made.

    Raises InvalidInput `broken_card`, or `model_missing` when a file is not there.
    """
    folder = Path(folder)
    try:
        card, blob = (folder / CARD_FILE).read_bytes(), (folder / MODEL_FILE).read_bytes()
    except OSError as error:
        raise InvalidInput("model_missing", f"no model in {folder}: {error.filename}: {error.strerror}") from error
    return Model(ModelCard.from_json(card), blob)


def _notes(table: Table, metrics: Metrics) -> tuple[str, ...]:
    notes = list(table.notes)
    n_empty = int(np.isnan(table.x).all(axis=0).sum())
    if table.servable and n_empty:
        notes.append(f"{n_empty} of {len(table.features)} features of the engine are not in the table: not used")
    if metrics.log_loss >= metrics.base_log_loss:
        notes.append(
            f"the model is no better than the base rate on held-out rows: log-loss {metrics.log_loss:.4f} "
            f"against {metrics.base_log_loss:.4f}"
        )
    return tuple(notes)
