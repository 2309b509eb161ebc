"""What the simulated engine learns from: its own journal, folded into examples, and the models fitted on them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.compiled import CompiledBook
from engine.ids import DecisionId
from engine.posteriors import ANY, Belief, Posteriors
from engine.record import DECISION, Record
from engine.world import World
from training.attribution import Attribution
from training.fit import Model, Parameters, fit
from training.learner import rows_table
from training.recovery.kiosk import Kiosk
from training.window import Window

PARAMETERS: Final[Parameters] = {"n_rounds": 300, "num_leaves": 7, "lambda_l2": 0.0, "max_cat_to_onehot": 8}
"""Small trees, many of them, and offers told apart one by one: what an offer changes is a small difference."""
FEWEST: Final = 300
"""Decisions with a choice before the first fit."""


class School:
    """Follows the records of one kiosk; at the end of a day fits on the decisions at which there was a choice.

    Only there does the offer not follow from the visitor: elsewhere what an offer changes cannot be told from whom it
    is for.
    """

    def __init__(self, book: CompiledBook, seed: int = 0) -> None:
        self._seed = seed
        self._window = Window(capacity=2_000_000)
        self._segments: dict[str, str] = {}
        self._attribution = Attribution(1, {book.version: book}.get, self._window.get)
        self.models: list[Model] = []

    def hear(self, record: Record, at: DecisionId) -> None:
        """A record as it is written."""
        if record[0] == DECISION:
            slots = record[8][2]
            if not slots or len(slots[0][0]) < 2:
                # No choice, no lesson.
                return
            segments = record[8][3]
            self._segments[str(at)] = segments[0] if segments else ANY
        self._window.upsert(self._attribution.observe(0, (at.epoch, at.seq), [record]))

    def end_day(self, kiosk: Kiosk, day: int, now_ms: int) -> None:
        """Put a new model and new posteriors in force, if enough has matured: daily in the first week, then weekly."""
        if day >= 7 and day % 7 != 6:
            return
        kiosk.pass_time(now_ms)
        self._window.upsert(self._attribution.advance(0, now_ms))
        found = self._window.matured()
        chosen = np.flatnonzero(found.propensity < 1.0)
        y = found.y[chosen]
        if len(y) < FEWEST or not 0 < y.sum() < len(y):
            return
        table = rows_table(np.ascontiguousarray(found.x[chosen]), y, found.t_ms[chosen], "simulation")
        model = fit(table, PARAMETERS, self._seed + day)
        self.models.append(model)
        answers = model.predictor()
        offers = [found.offer[i] for i in chosen]
        keys = [found.key[i] for i in chosen]
        campaigns = [found.campaign[i] for i in chosen]
        posteriors = self._posteriors(keys, campaigns, offers, y, answers.predict_many(table.x))
        kiosk.world = replace(World(kiosk.world.book, answers, posteriors=posteriors), arm=kiosk.world.arm)

    def _posteriors(
        self, keys: list[str], campaigns: list[str], offers: list[str | None], y: NDArray[np.float64],
        p: NDArray[np.float64],
    ) -> Posteriors:  # fmt: skip
        beliefs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0, 0.0]))
        for key, campaign, offer, came, said in zip(keys, campaigns, offers, y.tolist(), p.tolist(), strict=True):
            belief = beliefs[f"{campaign}.{offer or ''}"][self._segments.get(key, ANY)]
            belief[0] += 1.0
            belief[1] += came
            belief[2] += said
        plain = {key: {segment: Belief(*row) for segment, row in by.items()} for key, by in beliefs.items()}
        return Posteriors(f"p{len(self.models)}", plain)
