"""Learning while it answers: rows mature, and at each look a candidate may take over the champion's place. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from training.drift import Alarm, DriftWatch, feature_alarms
from training.fit import Model, Parameters, describe, fit_trees, parameters_for, refit_trees
from training.gates import Judgement, Limits, check_probabilities, check_rows, is_better, judge, losses
from training.native import LightGbmPredictor
from training.psi import shifts
from training.table import Table

Floats = NDArray[np.float64]
Recipe = Literal["retrain", "refit", "wait"]
Why = Literal["drift", "schedule", "cadence"]


@dataclass(frozen=True, slots=True)
class Policy:
    """When to learn, and from how much.

    At most `window` rows are kept and learned from. A look refits the leaves (`decay` is the weight of the old ones);
    every `retrain_every`-th look, or one after drift, grows new trees on the window, and stays due until such a
    candidate passes. The newest `held` share of the new rows judges. `delta` is ADWIN's, `alpha` that of the features'
    index. A rollback needs `rollback_z` standard errors of paired log-loss against the predecessor.
    """

    window: int = 10_000
    retrain_every: int = 5
    decay: float = 0.5
    held: float = 0.5
    delta: float = 0.002
    alpha: float = 0.001
    rollback_z: float = 3.0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look did: alarms since the last one, the candidate's judgement, and who answers from here on.

    `at_row` counts the rows observed; `champion` is a model's version. With the recipe `wait` there were too few
    matured rows to judge by: they are kept for the next look.
    """

    at_row: int
    alarms: tuple[Alarm, ...]
    recipe: Recipe
    why: Why
    judgement: Judgement
    promoted: bool
    rolled_back: bool
    champion: str


@dataclass(slots=True)
class _Standing:
    """A model that answers, with the rows its trees were grown on."""

    model: Model
    answers: LightGbmPredictor
    grown_on: Floats


class OnlineLoop:
    """A model that answers, and learns from what became of its answers.

    Verbs: `observe` a matured row, `look` once in a while. Memory is bounded by the policy's window and the number of
    trees by the parameters: a candidate is the champion's trees refitted, or trees grown anew, never trees added.
    The same rows, looks, policy and seed give the same models.
    """

    def __init__(
        self, first: Table, policy: Policy | None = None, seed: int = 0, params: Parameters | None = None
    ) -> None:
        self.policy = policy or Policy()
        self._schema, self._seed, self._params = first, seed, params
        self._x, self._y = first.x[-self.policy.window :], first.y[-self.policy.window :]
        model = self._grown(self._x, self._y)
        self._now = _Standing(model, model.predictor(), self._x)
        self._before: _Standing | None = None
        self._new: deque[tuple[Floats, float]] = deque(maxlen=self.policy.window)
        self._watch = DriftWatch(self.policy.delta)
        self._expect()
        self._alarms: list[Alarm] = []
        self._n_observed, self._n_looks = 0, 0
        self._due: Why | None = None
        self._worse = np.zeros(3)  # count, sum and sum of squares of the losses above the predecessor's

    @property
    def champion(self) -> Model:
        """The model that answers now."""
        return self._now.model

    def predict(self, row: Floats) -> float:
        """The champion's probability for one row of shape (n_features,)."""
        return self._now.answers.predict_one(row)

    def observe(self, row: Floats, label: float, served: float | None = None) -> float:
        """Take one matured row, shape (n_features,), with its label 0 or 1; gives the champion's probability for it.

        The champion has not seen this label. `served` is what the visitor was answered at the time, where that was
        another model's answer: drift is watched on it. Raises InvalidInput `bad_label`.
        """
        if label not in (0.0, 1.0):
            raise InvalidInput("bad_label", f"a label is 0 or 1, not {label!r}")
        p = self._now.answers.predict_one(row)
        if self._before is not None:
            pair = np.array([p, self._before.answers.predict_one(row)])
            loss, before = losses(np.array([label, label]), pair)
            self._worse += (1.0, loss - before, (loss - before) ** 2)
        self._new.append((np.array(row, dtype=np.float64), label))
        self._n_observed += 1
        self._alarms.extend(self._watch.observe(label, p if served is None else served))
        return p

    def look(self) -> Look:
        """Learn a candidate from the rows so far, judge it on the newest, and let it answer if it passes.

        Judged is a trial that has not seen the judging rows. What takes over is the same recipe over all rows, once
        its own scores were found to be probabilities: waiting for rows unseen by it would cost the freshness.
        """
        self._n_looks += 1
        rolled_back = self._roll_back_if_worse()
        x = np.array([row for row, _ in self._new]).reshape(len(self._new), len(self._schema.features))
        y = np.array([label for _, label in self._new], dtype=np.float64)
        alarms = self._take_alarms(x)
        if alarms:
            self._due = "drift"
        elif self._due is None and self._n_looks % self.policy.retrain_every == 0:
            self._due = "schedule"
        why: Why = self._due or "cadence"
        cut = len(y) - round(self.policy.held * len(y))
        rows = check_rows(y[cut:])
        if cut == 0 or not rows.passed:
            return self._look(alarms, "wait", why, Judgement((rows,)), False, rolled_back)
        recipe: Recipe = "retrain" if self._due else "refit"
        scores, newest = self._best_trial(recipe, x, y, cut)
        champion = self._now.answers.predict_many(np.ascontiguousarray(x[cut:]))
        limits = self.policy.limits.after_drift() if why == "drift" else self.policy.limits
        judgement = judge(y[cut:], champion, scores, limits)
        promoted = False
        if judgement.passed:
            candidate = self._candidate(recipe, x, y, newest)
            sound = check_probabilities(candidate.predictor().predict_many(x))
            judgement = Judgement((*judgement.findings, *sound))
            promoted = judgement.passed
        self._x, self._y = self._window(x, y)
        self._new.clear()
        if promoted:
            self._promote(candidate, self._x[-newest:] if recipe == "retrain" else self._now.grown_on)
            self._due = None
        return self._look(alarms, recipe, why, judgement, promoted, rolled_back)

    def _look(
        self, alarms: tuple[Alarm, ...], recipe: Recipe, why: Why, judgement: Judgement, promoted: bool, back: bool
    ) -> Look:
        return Look(self._n_observed, alarms, recipe, why, judgement, promoted, back, self.champion.card.version)

    def _take_alarms(self, x: Floats) -> tuple[Alarm, ...]:
        categorical = frozenset(self._schema.categorical)
        found = shifts(self._now.grown_on, x, self._schema.features, categorical, self.policy.alpha)
        alarms = (*self._alarms, *feature_alarms(found, self._n_observed, len(x)))
        self._alarms = []
        return alarms

    def _expect(self) -> None:
        """Show the watch the last quarter of the first rows, as a model of the others answers them.

        Without it a world that turns round just after the start would be all that the watch ever saw.
        """
        cut = len(self._y) - len(self._y) // 4
        model = self._grown(self._x[:cut], self._y[:cut])
        answers = model.predictor().predict_many(np.ascontiguousarray(self._x[cut:]))
        self._watch.begin(self._y[cut:].tolist(), answers.tolist())

    def _best_trial(self, recipe: Recipe, x: Floats, y: Floats, cut: int) -> tuple[Floats, int]:
        """The scores a trial gives to the rows from `cut` on, and how many newest rows its recipe learns from.

        New trees are tried on the whole window, and on only those rows that came since the watch saw a change: in a
        sudden drift the old ones teach the wrong thing, in a slow one they are needed. The short window is taken only
        where its log-loss is lower beyond chance.
        """
        n_judging = len(y) - cut

        def scores_of(newest: int) -> Floats:
            trial = self._candidate(recipe, x[:cut], y[:cut], newest - n_judging)
            return trial.predictor().predict_many(np.ascontiguousarray(x[cut:]))

        whole, since = scores_of(self.policy.window), self._watch.width
        if recipe == "retrain" and since is not None and since <= self.policy.window // 2:
            newest = max(since, len(y))
            recent = scores_of(newest)
            if is_better(y[cut:], whole, recent):
                return recent, newest
        return whole, self.policy.window

    def _candidate(self, recipe: Recipe, x: Floats, y: Floats, newest: int) -> Model:
        """A model of the recipe that has seen the window and these new rows, of all of them the newest."""
        if recipe == "retrain":
            all_x, all_y = self._window(x, y)
            return self._grown(all_x[-newest:], all_y[-newest:])
        parameters = parameters_for(len(self._y), self._params, self._seed)
        trees = refit_trees(self.champion.blob, x, y, self.policy.decay, parameters)
        return describe(self._part(x, y), trees, parameters, self._seed)

    def _grown(self, x: Floats, y: Floats) -> Model:
        parameters, part = parameters_for(len(y), self._params, self._seed), self._part(x, y)
        return describe(part, fit_trees(part, parameters), parameters, self._seed)

    def _part(self, x: Floats, y: Floats) -> Table:
        return replace(self._schema, x=np.ascontiguousarray(x), y=y, times=None)

    def _window(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        n = self.policy.window
        return np.concatenate([self._x, x])[-n:], np.concatenate([self._y, y])[-n:]

    def _promote(self, model: Model, grown_on: Floats) -> None:
        self._before, self._now = self._now, _Standing(model, model.predictor(), grown_on)
        self._worse = np.zeros(3)

    def _roll_back_if_worse(self) -> bool:
        """Back to the predecessor if the champion's paired losses since its promotion are worse beyond chance."""
        n, total, squares = self._worse
        if self._before is None or n < 2:
            return False
        error = max(squares / n - (total / n) ** 2, 0.0) ** 0.5 / n**0.5
        if total / n <= self.policy.rollback_z * error:
            return False
        self._now, self._before = self._before, None
        self._worse = np.zeros(3)
        return True
