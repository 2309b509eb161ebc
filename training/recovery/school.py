"""What the simulated engine learns from: its own journal, folded into examples; models and posteriors come of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from engine.compiled import CompiledBook
from engine.ids import DecisionId
from engine.posteriors import Posteriors
from engine.record import DECISION, Record
from training.attribution import Attribution
from training.fit import Model, fit
from training.keeping import keep
from training.learner import FOR_OFFERS, rows_table
from training.posteriors import beliefs_of
from training.recovery.kiosk import Kiosk
from training.window import Matured, Window

FEWEST: Final = 500
"""Decisions with a choice before the first fit, as for the trainer."""
OFTEN_DAYS, EVERY_DAYS = 14, 3
"""A model is fitted daily for so many days, then every so many."""
GROWTH: Final = 1.05
"""Posteriors follow where so many times as much has matured, looked at hourly; those of the trainer each minute."""


class School:
    """Follows the records of one kiosk; at the end of a day fits on the decisions at which there was a choice.

    Only there does the offer not follow from the visitor: elsewhere what an offer changes cannot be told from whom it
    is for.
    """

    def __init__(self, book: CompiledBook, seed: int = 0) -> None:
        self._seed = seed
        self._window = Window(capacity=2_000_000)
        self._attribution = Attribution(1, {book.version: book}.get)
        self.models: list[Model] = []
        self._n_taught = self._n_matured = 0

    def hear(self, record: Record, at: DecisionId) -> None:
        """A record as it is written."""
        if record[0] == DECISION and not (record[8][2] and len(record[8][2][0][0]) > 1):
            # No choice, no lesson.
            return
        self._attribution.observe(0, (at.epoch, at.seq), [record])

    def end_hour(self, kiosk: Kiosk, hour: int, now_ms: int) -> None:
        """Put in force what has been learned: a model at the end of a day, posteriors whenever enough is new."""
        kiosk.pass_time(now_ms)
        self._attribution.advance(0, now_ms)
        keep(self._attribution, self._window)
        day, grown = (hour + 1) // 24 - 1, self._window.n_matured > GROWTH * self._n_matured
        fits = (hour + 1) % 24 == 0 and (day < OFTEN_DAYS or day % EVERY_DAYS == 0)
        if not fits and not grown:
            return
        found = self._window.matured()
        new_model = fits and self._fit(kiosk, day, found)
        answers = kiosk.world.model
        if not (new_model or grown) or answers is None or not found.y.any():
            return
        self._n_taught += 1
        self._n_matured = len(found.y)
        posteriors = Posteriors(f"p{self._n_taught}", beliefs_of(found, answers.predict_many))
        kiosk.world = replace(kiosk.world, posteriors=posteriors)

    def _fit(self, kiosk: Kiosk, day: int, found: Matured) -> bool:
        chosen = np.flatnonzero(found.propensity < 1.0)
        y = found.y[chosen]
        if len(y) < FEWEST or not 0 < y.sum() < len(y):
            return False
        model = fit(rows_table(found.x[chosen], y, found.t_ms[chosen], "simulation"), FOR_OFFERS, self._seed + day)
        self.models.append(model)
        kiosk.world = replace(kiosk.world, model=model.predictor())
        return True
