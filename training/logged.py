"""The log of a policy as a table: actions, rewards, propensities, and what a new policy would do with each row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from training.cells import number
from training.columns import column, missing, numbers, refuse_where, texts
from training.off_policy import Estimate, Valuation, estimate, value, weights
from training.reward_model import design, folds, predict_by_action, predict_by_context
from training.rows import BadRow, RawTable, read_rows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST: Final = 1e50
"""The largest reward, and the largest weight: squares of products of the two are still numbers."""
ROUNDED: Final = 1e-3
"""How far from 1 the probabilities of a policy may add up, as those in a file are rounded."""


@dataclass(frozen=True, slots=True)
class Log:
    """n decisions: `action` codes into `actions` (sorted), `reward`, `propensity`, all (n,); features `x` (n, d)."""

    raw: RawTable
    actions: tuple[str, ...]
    action: Ints
    reward: Floats
    propensity: Floats
    x: Floats
    notes: tuple[str, ...]

    @property
    def bad(self) -> tuple[BadRow, ...]:
        """Rows that could not be read."""
        return tuple(self.raw.bad)


@dataclass(frozen=True, slots=True)
class Named:
    """A policy, its valuation, the DR score of each row (n,), and the share of rows in which it takes each action."""

    name: str
    valuation: Valuation
    scores: Floats
    takes: dict[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The learned policy's DR value minus another's on the same rows; `beats` only where the lower bound is above 0."""

    against: str
    difference: Estimate
    beats: bool


@dataclass(frozen=True, slots=True)
class Learned:
    """A cross-fitted policy beside every constant one. `comparisons` share the error (Bonferroni)."""

    learned: Named
    constants: tuple[Named, ...]
    comparisons: tuple[Comparison, ...]


def read_log(path: Path, action: str, reward: str, propensity: str, features: tuple[str, ...] = ()) -> Log:
    """Read a log. `propensity` is a column or a number such as 0.5 or 1/3: of the logged action, by the logging policy.

    Every row counts: a row left out would bias the value, so a wrong cell ends it. Raises InvalidInput
    `table_unreadable`, `column_missing`, `bad_action`, `bad_reward`, `bad_propensity`, `one_arm`.
    """
    raw = read_rows(path)
    took = column(raw, action, "--action")
    earned = numbers(column(raw, reward, "--reward"))
    for name in features:
        column(raw, name, "--features")
        if name in {action, reward, propensity}:
            raise InvalidInput("bad_features", f"--features: {name!r} is the action, the reward or the propensity")
    if not len(raw.lines):
        raise InvalidInput("too_few_rows", f"{path} has no row that can be read")
    names = texts(took)
    refuse_where(names == "", raw, action, "bad_action", "an action")
    refuse_where(~(np.abs(earned) <= MOST), raw, reward, "bad_reward", "a number")
    p = column_or_number(raw, propensity, "--propensity", "bad_propensity")
    if propensity in raw.columns:
        usable = (p >= 1 / MOST) & (p <= 1)
        refuse_where(~usable, raw, propensity, "bad_propensity", "a number above 0 and at most 1")
    elif not 1 / MOST <= p[0] <= 1:
        raise InvalidInput("bad_propensity", f"--propensity is {propensity}, expected above 0 and at most 1")
    actions, codes = np.unique(names, return_inverse=True)
    if len(actions) < 2:
        raise InvalidInput("one_arm", f"the log took only {str(actions[0])!r}: nothing can be said of other actions")
    x, notes = design(raw, features)
    return Log(raw, tuple(str(a) for a in actions), codes.astype(np.int64), earned, p, x, notes)


def column_or_number(raw: RawTable, given: str, option: str, code: str) -> Floats:
    """The cells of a column (NaN where one is no number), or one number for each row; shape (n,).

    Raises InvalidInput `column_missing` where it is neither, `code` for a division by 0.
    """
    if given in raw.columns:
        return numbers(raw.columns[given])
    above, _, below = given.partition("/")
    top, bottom = number(above), number(below) if below else 1.0
    if top is None or bottom is None:
        raise missing(raw.columns, given, option)
    if bottom == 0:
        raise InvalidInput(code, f"{option} is {given}")
    return np.full(len(raw.lines), top / bottom)


def value_target(log: Log, target: str, seed: int = 0, confidence: float = 0.95) -> tuple[Valuation, str]:
    """Value a policy by the probability with which it takes each row's logged action: a column, or a number.

    The reward model is by action where the log shows the whole policy (probabilities that depend on the action alone
    and add up to 1), else by context; the second result says which. Raises InvalidInput `column_missing`,
    `bad_target_prob`. Sources: `training.off_policy`.
    """
    pi = column_or_number(log.raw, target, "--target-prob", "bad_target_prob")
    if target in log.raw.columns:
        refuse_where(~((pi >= 0) & (pi <= 1)), log.raw, target, "bad_target_prob", "a number within 0 and 1")
    w = weights(pi, log.propensity)
    fold = folds(len(w), seed)
    policy = _by_action(log, pi)
    if policy is None:
        b = predict_by_context(log.x, log.reward, w, fold)
        return value(log.reward, w, b, b, confidence), "context"
    q = predict_by_action(log.x, log.action, log.reward, len(log.actions), fold)
    return value(log.reward, w, q[np.arange(len(w)), log.action], q @ policy, confidence), "action"


def _by_action(log: Log, pi: Floats) -> Floats | None:
    lowest, highest = np.full(len(log.actions), np.inf), np.full(len(log.actions), -np.inf)
    np.minimum.at(lowest, log.action, pi)
    np.maximum.at(highest, log.action, pi)
    constant = np.allclose(lowest, highest, rtol=0, atol=1e-9) and abs(highest.sum() - 1) < ROUNDED
    return highest if constant else None


def learn(log: Log, seed: int = 0, confidence: float = 0.95) -> Learned:
    """Learn who should get which action, and value that policy beside every constant one, on rows it did not see.

    In each fold the policy takes the action with the highest predicted reward. It `beats` another policy only where
    neither was refused and the lower bound of the paired DR difference, at the error shared by all, is above 0.
    """
    n, n_actions = len(log.reward), len(log.actions)
    q = predict_by_action(log.x, log.action, log.reward, n_actions, folds(n, seed))

    def valued(name: str, choice: Ints) -> Named:
        w = weights((choice == log.action).astype(np.float64), log.propensity)
        q_logged, q_target = q[np.arange(n), log.action], q[np.arange(n), choice]
        shares = np.bincount(choice, minlength=n_actions) / n
        takes = {log.actions[arm]: float(share) for arm, share in enumerate(shares) if share > 0}
        return Named(name, value(log.reward, w, q_logged, q_target, confidence),
                     q_target + w * (log.reward - q_logged), takes)  # fmt: skip

    learned = valued("learned", q.argmax(axis=1))
    constants = tuple(valued(f"always {name}", np.full(n, arm)) for arm, name in enumerate(log.actions))
    shared = 1 - (1 - confidence) / n_actions
    comparisons = []
    for other in constants:
        difference = estimate(learned.scores - other.scores, shared)
        usable = learned.valuation.verdict == other.valuation.verdict == "ok"
        comparisons.append(Comparison(other.name, difference, usable and difference.lower > 0))
    return Learned(learned, constants, tuple(comparisons))
