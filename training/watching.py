"""The trainer's watch over drift: what the champion answers to each matured row, and whether the rows have changed."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.schema import CATEGORICAL, MODEL_FEATURES
from training.drift import Alarm, DriftWatch, feature_alarms
from training.learner import Champion
from training.psi import shifts

Floats = NDArray[np.float64]
FEWEST: Final = 500
"""Rows on either side below which features are not compared."""
MOST: Final = 20_000


class ChampionWatch:
    """Verbs: answer_by, observe, compare, take. It goes on over promotions, as `DriftWatch` does.

    A prior is not watched: it has learned from nothing that could have changed.
    """

    def __init__(self, delta: float = 0.002, alpha: float = 0.001) -> None:
        self._watch, self._alpha = DriftWatch(delta), alpha
        self._champion: Champion | None = None
        self._alarms: list[Alarm] = []

    @property
    def alarmed(self) -> bool:
        """Whether something has moved since the alarms were last taken."""
        return bool(self._alarms)

    def answer_by(self, champion: Champion, x: Floats, y: Floats) -> None:
        """Watch this champion; `x` (n, n_features), `y` (n,): rows it has not seen, in time order: what to expect.

        They are shown once, at the very first champion: a promotion does not change what is expected.
        """
        if champion.model is None or (self._champion is not None and champion.version == self._champion.version):
            return
        first = self._champion is None
        self._champion = champion
        if first and len(y):
            p = champion.answers.predict_many(np.ascontiguousarray(x))
            self._watch.begin(y.tolist(), np.clip(p, 0, 1).tolist())

    def observe(self, x: Floats, y: Floats) -> None:
        """Newly matured rows in time order."""
        if self._champion is None or not len(y):
            return
        p = np.clip(self._champion.answers.predict_many(np.ascontiguousarray(x)), 0, 1)
        for label, answer in zip(y.tolist(), p.tolist(), strict=True):
            self._alarms.extend(self._watch.observe(label, answer))

    def compare(self, learned_from: Floats, since: Floats) -> None:
        """Compare the rows the champion learned from with those since, each (n, n_features); an alarm at most."""
        if self._champion is None or min(len(learned_from), len(since)) < FEWEST:
            return
        found = shifts(learned_from[-MOST:], since[-MOST:], MODEL_FEATURES, frozenset(CATEGORICAL), self._alpha)
        known = {alarm.cause for alarm in self._alarms}
        self._alarms.extend(a for a in feature_alarms(found, self._watch.n_rows, len(since)) if a.cause not in known)

    def take(self) -> tuple[Alarm, ...]:
        """The alarms since the last time; afterwards there are none."""
        alarms, self._alarms = tuple(self._alarms), []
        return alarms
