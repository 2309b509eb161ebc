"""The card of a model: what it is, what it learned from, how good it was, and the checksum of its bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from engine.errors import InvalidInput
from training.calibration import Calibration
from training.metrics import (
    auc,
    base_log_loss,
    brier,
    calibration_bins,
    calibration_error,
    calibration_ratio,
    log_loss,
)


class Row(BaseModel):
    """One bin of the calibration table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    predicted: float
    observed: float


class Metrics(BaseModel):
    """Measured on rows the model was not fitted on; `scheme` says how they were held out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: str
    n_rows: int
    auc: float
    auc_per_fold: tuple[float, ...] = ()
    log_loss: float
    base_log_loss: float
    brier: float
    calibration_ratio: float
    calibration_error: float
    calibration_table: tuple[Row, ...] = ()


class ModelCard(BaseModel):
    """Everything known about one version of the conversion model.

    `categories` holds, for each categorical feature, its labels in the order of their codes. `data_first_ms` and
    `data_last_ms` are the window of the data where the table names its times. `calibration` is applied after the
    trees. `servable` is whether an engine of this schema can use it, `why_not` says in a sentence why it cannot.

    What the trainer adds: `target` (`conversion` or `churn`), `recipe` and, for a refit, `parent`, whose trees it has;
    `data_sha256` of the rows learned from; and the `gates` with their numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    created_ms: int
    features: tuple[str, ...]
    schema_hash: str
    categories: dict[str, tuple[str, ...]] = {}
    label: str = ""
    positive: str = ""
    n_rows: int
    n_positive: int
    data_first_ms: int | None = None
    data_last_ms: int | None = None
    metrics: Metrics | None = None
    parameters: dict[str, float | int | str | bool] = {}
    seed: int
    sha256: str
    source: str = ""
    servable: bool
    why_not: str | None = None
    calibration: Calibration | None = None
    target: str = "conversion"
    recipe: str = ""
    parent: str = ""
    data_sha256: str = ""
    gates: tuple[dict[str, float | str | None], ...] = ()

    def to_json(self) -> bytes:
        """Readable JSON; `from_json` gives back an equal card."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes | str) -> ModelCard:
        """Read a card; raises InvalidInput `broken_card` naming the first field that is wrong."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _broken(error) from error

    @classmethod
    def from_object(cls, fields: Mapping[str, object]) -> ModelCard:
        """Read a card from what its JSON says; raises InvalidInput `broken_card`."""
        return cls.from_json(json.dumps(fields))


def _broken(error: ValidationError) -> InvalidInput:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    return InvalidInput("broken_card", f"not a model card: {where}: {first['msg']}")


def measure(y: NDArray[np.float64], p: NDArray[np.float64], scheme: str, folds: NDArray[np.int64]) -> Metrics:
    """Metrics of probabilities given to held-out rows; `y`, `p` and `folds` (fold of each row) have shape (n,)."""
    bins = calibration_bins(y, p)
    each = [auc(y[folds == fold], p[folds == fold]) for fold in np.unique(folds)]
    return Metrics(
        scheme=scheme, n_rows=len(y), auc=auc(y, p), auc_per_fold=tuple(each), log_loss=log_loss(y, p),
        base_log_loss=base_log_loss(y), brier=brier(y, p), calibration_ratio=calibration_ratio(y, p),
        calibration_error=calibration_error(bins), calibration_table=tuple(Row(**asdict(b)) for b in bins),
    )  # fmt: skip


def sha256_of(blob: bytes) -> str:
    """The checksum by which an artefact is known."""
    return hashlib.sha256(blob).hexdigest()


def version_of(blob: bytes, schema_hash: str, calibration: Calibration | None) -> str:
    """A version named after what answers: equal trees, layout and calibration are the same version, whenever made."""
    parts = hashlib.sha256(blob)
    parts.update(schema_hash.encode())
    parts.update(b"" if calibration is None else calibration.model_dump_json().encode())
    return f"lgbm-{parts.hexdigest()[:12]}"
