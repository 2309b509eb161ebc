"""One lesson of the trainer: a candidate from the window's rows, judged on the newest of them by a trial that had not
seen them. Pure: the same rows, champion, recipe and seed give the same bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from engine.schema import CATEGORICAL, MODEL_FEATURES, schema_hash
from training.admission import check_latency, check_leaks, check_schema
from training.calibration import Isotonic, Platt, fit_platt
from training.card import Metrics, ModelCard, measure
from training.encode import ENGINE_LABELS
from training.fit import Model, Parameters, Told, Trees, describe, fit_trees, parameters_for, refit_trees
from training.gates import FEWEST_OF_A_CLASS, FEWEST_ROWS, Finding, Limits, check_probabilities, judge
from training.metrics import log_loss
from training.native import LightGbmPredictor
from training.recipes import Recipe, Target
from training.table import Table

Floats = NDArray[np.float64]

HELD_FIRST: Final = 0.2
"""The share of all rows that judges a first model."""
HELD_NEW: Final = 0.5
"""The share of the rows that the champion has not seen that judges its successor."""
MOST_JUDGING: Final = 50_000
FOR_OFFERS: Final[Parameters] = {
    "n_rounds": 300, "learning_rate": 0.03, "num_leaves": 7, "lambda_l2": 0.0, "max_cat_to_onehot": 8,
}  # fmt: skip
"""Small trees, many of them, and offers told apart one by one: what an offer changes is a small difference.

Fewer and larger steps are worse here: over six simulated weeks 120 trees of 0.075 gain 0.75 of what can be gained, 300
of 0.03 0.85 (seed 3), because the gates refuse the first, noisier ones for longer.

Learned from 1,100, 2,300 and 4,600 simulated carts at risk with offers shown at random, the best choice by such a model
gains 0.68, 0.75 and 0.81 of what the best by the truth would; with `fit`'s defaults 0.63, 0.69 and 0.79 (two draws).
"""
DECAY: Final = 0.5
"""The weight of the old leaves in a refit."""
DECAY_NAME: Final = "refit_decay"


class Answers(Protocol):
    """What is asked of a champion, trained or not."""

    def predict_one(self, row: Floats, /) -> float: ...

    def predict_many(self, rows: Floats, /) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Champion:
    """Who answers now: `model` is None for a prior, which has learned from nothing."""

    version: str
    answers: Answers
    model: Model | None = None

    @property
    def seen_until_ms(self) -> int:
        """The time of the newest row it has learned from."""
        last = None if self.model is None else self.model.card.data_last_ms
        return -1 if last is None else last


@dataclass(frozen=True, slots=True)
class Lesson:
    """What to learn, and from what: `table` is in time order and names its times."""

    table: Table
    champion: Champion
    recipe: Recipe
    target: Target = "conversion"
    seed: int = 0
    params: Parameters | None = None
    limits: Limits = field(default_factory=Limits)
    fewest: int = 500
    """Rows below which nothing is learned."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The candidate, the trial that stands for it in judging, where the judging rows begin, and the findings so far."""

    candidate: Model
    trial: LightGbmPredictor
    cut: int
    findings: tuple[Finding, ...]

    def with_gates(self, findings: tuple[Finding, ...]) -> Model:
        """The candidate with every gate in its card; its version and bytes are the same."""
        gates = tuple(finding.told() for finding in findings)
        return replace(self.candidate, card=self.candidate.card.model_copy(update={"gates": gates}))


def rows_table(
    x: Floats, y: Floats, t_ms: NDArray[np.int64], source: str = "journal", visitors: NDArray[np.int64] | None = None
) -> Table:
    """The window's rows of shape (n, n_features) in the engine's layout, put into the order of their times."""
    order = np.argsort(t_ms, kind="stable")
    if not np.array_equal(order, np.arange(len(order))):
        x, y, t_ms = x[order], y[order], t_ms[order]
        visitors = None if visitors is None else visitors[order]
    return Table(
        MODEL_FEATURES, np.ascontiguousarray(x), y, schema_hash(), servable=True, categorical=CATEGORICAL,
        categories=dict(ENGINE_LABELS), times=t_ms, visitors=visitors, label="converted", positive="1", source=source,
    )  # fmt: skip


def learn(lesson: Lesson, told: Told | None = None, created_ms: int = 0) -> Learned:
    """Learn a candidate and judge it against the champion; `told` hears the share done and may raise to end it.

    Raises InvalidInput: `too_few_labels`, `one_class`, `schema_changed`, `no_trees` (a refit needs a trained champion).
    """
    table, champion = lesson.table, lesson.champion
    if table.schema_hash != schema_hash():
        words = f"the rows are of feature layout {table.schema_hash}, the engine's is {schema_hash()}"
        raise InvalidInput("schema_changed", words)
    if told is not None:
        told(0.0)
    start, cut = _split(lesson)
    own = FOR_OFFERS if lesson.target == "conversion" else {}
    parameters = parameters_for(len(table.y), {**own, **(lesson.params or {})}, lesson.seed)
    leaks = check_leaks(table, parameters, _part_of(told, 0.0, 0.1))
    trial_trees = _grow(lesson, start, cut, parameters, _part_of(told, 0.1, 0.5))
    y = table.y[cut:]
    raw = _raw_answers(table, trial_trees, parameters, lesson.seed, table.x[cut:])
    calibration, p = _calibrated(raw, y)
    trial = describe(table.part(start, cut), trial_trees, parameters, lesson.seed, calibration).predictor()
    judgement = judge(y, champion.answers.predict_many(np.ascontiguousarray(table.x[cut:])), p, lesson.limits)
    trees = _grow(lesson, start, len(table.y), parameters, _part_of(told, 0.5, 0.9))
    scheme = f"the newest {len(y):,} rows in time order, by a trial of the older ones"
    metrics = measure(y, p, scheme, np.zeros(len(y), dtype=np.int64))
    candidate = _described(lesson, start, trees, parameters, calibration, metrics, created_ms)
    answers = candidate.predictor()
    newest = table.x[-MOST_JUDGING:]
    sound = check_probabilities(answers.predict_many(newest))
    rival = None if champion.model is None else champion.answers
    findings = [check_schema(candidate.card.schema_hash), leaks, *judgement.findings, *sound]
    findings.append(check_latency(rival, answers, newest))
    answers.close()
    if told is not None:
        told(1.0)
    return Learned(candidate, trial, cut, tuple(findings))


def reproduce(card: ModelCard, table: Table, parent: Model | None = None) -> Model:
    """The model that a card describes, grown again from the same rows (and, for a refit, the same parent).

    Raises InvalidInput `not_reproducible` where rows or bytes are others.
    """
    if data_sum(table) != card.data_sha256:
        raise InvalidInput("not_reproducible", f"the rows are not those that {card.version} was learned from")
    parameters = dict(card.parameters)
    decay = float(parameters.pop(DECAY_NAME, DECAY))
    if card.recipe == "refit":
        if parent is None or parent.card.version != card.parent:
            raise InvalidInput("not_reproducible", f"{card.version} is a refit of {card.parent}, which is not given")
        trees = refit_trees(parent.blob, table.x, table.y, decay, parameters)
    else:
        trees = fit_trees(table, parameters)
    again = describe(table, trees, parameters, card.seed, card.calibration, card.metrics, card.created_ms)
    if again.card.sha256 != card.sha256:
        raise InvalidInput("not_reproducible", f"the trees of {card.version} come out otherwise here")
    return Model(card, again.blob)


def data_sum(table: Table) -> str:
    """The checksum of the rows, outcomes and times of a table."""
    parts = hashlib.sha256(np.ascontiguousarray(table.x).data)
    parts.update(np.ascontiguousarray(table.y).data)
    if table.times is not None:
        parts.update(np.ascontiguousarray(table.times).data)
    return parts.hexdigest()


def _split(lesson: Lesson) -> tuple[int, int]:
    """Where the rows begin that the recipe learns from, and where those begin that judge."""
    table, champion = lesson.table, lesson.champion
    assert table.times is not None
    n, n_positive = len(table.y), int(table.y.sum())
    if n < max(lesson.fewest, FEWEST_ROWS * 2):
        words = f"{n:,} matured rows with a label; {max(lesson.fewest, FEWEST_ROWS * 2):,} are needed"
        raise InvalidInput("too_few_labels", words)
    if n_positive in (0, n):
        words = f"all of {n:,} matured rows have the same outcome: nothing to tell apart"
        raise InvalidInput("one_class", words)
    first_new = int(np.searchsorted(table.times, champion.seen_until_ms, side="right"))
    held = HELD_FIRST if champion.model is None else HELD_NEW
    n_judging = min(MOST_JUDGING, round(held * (n - first_new)))
    cut = n - n_judging
    if lesson.recipe == "refit" and champion.model is None:
        raise InvalidInput("no_trees", f"{champion.version} has no trees to refit; train first")
    start = first_new if lesson.recipe == "refit" else 0
    for rows, what in ((table.y[cut:], "judge by"), (table.y[start:cut], "learn from")):
        rarer = int(min(rows.sum(), len(rows) - rows.sum()))
        if len(rows) < FEWEST_ROWS or rarer < FEWEST_OF_A_CLASS:
            since = "" if champion.model is None else f" since {champion.version} was learned"
            words = f"{len(rows):,} rows to {what}{since}, {rarer} of the rarer outcome: at least {FEWEST_ROWS} and "
            raise InvalidInput("too_few_labels", f"{words}{FEWEST_OF_A_CLASS} are needed")
    return start, cut


def _grow(lesson: Lesson, start: int, end: int, parameters: Parameters, told: Told | None) -> Trees:
    part = lesson.table.part(start, end)
    if lesson.recipe == "retrain":
        return fit_trees(part, parameters, told=told)
    assert lesson.champion.model is not None
    if told is not None:
        told(0.0)
    return refit_trees(lesson.champion.model.blob, part.x, part.y, DECAY, parameters)


def _raw_answers(table: Table, trees: Trees, parameters: Parameters, seed: int, x: Floats) -> Floats:
    predictor = describe(table, trees, parameters, seed).predictor()
    try:
        return predictor.predict_many(np.ascontiguousarray(x))
    finally:
        predictor.close()


def _calibrated(raw: Floats, y: Floats) -> tuple[Platt | Isotonic | None, Floats]:
    """Platt's map where it lowers the log-loss, each half of the rows judged by the map of the other half."""
    odd = (np.arange(len(y)) % 2).astype(bool)
    if len(np.unique(y[odd])) < 2 or len(np.unique(y[~odd])) < 2:
        return None, raw
    p = raw.copy()
    for half in (odd, ~odd):
        p[half] = fit_platt(raw[~half], y[~half]).many(raw[half])
    if log_loss(y, p) >= log_loss(y, raw):
        return None, raw
    return fit_platt(raw, y), p


def _described(
    lesson: Lesson, start: int, trees: Trees, parameters: Parameters, calibration: Platt | Isotonic | None,
    metrics: Metrics, created_ms: int,
) -> Model:  # fmt: skip
    part = lesson.table.part(start, len(lesson.table.y))
    refit = lesson.recipe == "refit"
    noted = {**parameters, **({DECAY_NAME: DECAY} if refit else {})}
    model = describe(part, trees, noted, lesson.seed, calibration, metrics, created_ms)
    more = {
        "target": lesson.target, "recipe": lesson.recipe, "parent": lesson.champion.version if refit else "",
        "data_sha256": data_sum(part),
    }  # fmt: skip
    return replace(model, card=model.card.model_copy(update=more))


def _part_of(told: Told | None, start: float, end: float) -> Told | None:
    return None if told is None else lambda share: told(start + share * (end - start))
