"""Has the world moved? One watch over what a model answers and over the rows it is asked about."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from training.adwin import Adwin
from training.psi import Shift

Cause = Literal["log_loss", "residual", "features"]

_WORST: Final = -math.log(1e-3)
"""Log-losses are held at that of an outcome called a thousand to one against, to fit ADWIN's [0, 1]."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What moved; `at_row` counts the rows observed, `width` is how many newest rows are of the new kind."""

    cause: Cause
    at_row: int
    width: int
    sentence: str


class DriftWatch:
    """ADWIN on the log-loss and on the residual of every matured prediction.

    A log-loss that falls is no alarm: the old rows are forgotten in silence. A residual alarms in both directions.
    The watch goes on over promotions: it follows the loss that visitors met, whichever model caused it.
    """

    def __init__(self, delta: float = 0.002) -> None:
        self._loss, self._residual = Adwin(delta), Adwin(delta)
        self._n_expected = self.n_rows = 0

    @property
    def width(self) -> int | None:
        """How many newest rows came since the last change that either detector saw; None if there never was one."""
        width = min(self._loss.width, self._residual.width)
        return width if width < self._n_expected + self.n_rows else None

    def begin(self, labels: Iterable[float], answers: Iterable[float]) -> None:
        """Take rows of the time before, answered by a model that had not seen them: what is to be expected."""
        for label, p in zip(labels, answers, strict=True):
            self.observe(label, p)
        self._n_expected, self.n_rows = self.n_rows, 0

    def observe(self, label: float, p: float) -> tuple[Alarm, ...]:
        """Take one matured row: its label (0 or 1) and the probability that was answered; gives new alarms."""
        self.n_rows += 1
        before = self._loss.mean, 1.0 - 2.0 * self._residual.mean
        held = min(max(p if label else 1.0 - p, math.exp(-_WORST)), 1.0)
        rose = self._loss.observe(min(1.0, -math.log(held) / _WORST))
        moved = self._residual.observe((1.0 + p - label) / 2.0)
        alarms = []
        if rose == "rose":
            was, now = before[0] * _WORST, self._loss.mean * _WORST
            words = f"log-loss rose from {was:.4f} to {now:.4f}"
            alarms.append(Alarm("log_loss", self.n_rows, self._loss.width, words))
        if moved:
            now = 1.0 - 2.0 * self._residual.mean
            words = f"outcome less prediction went from {before[1]:+.4f} to {now:+.4f} a row"
            alarms.append(Alarm("residual", self.n_rows, self._residual.width, words))
        return tuple(alarms)


def feature_alarms(found: tuple[Shift, ...], at_row: int, width: int) -> tuple[Alarm, ...]:
    """One alarm for all features that shifted notably, or none; `found` is what `training.psi.shifts` gives."""
    notable = [shift for shift in found if shift.notable]
    if not notable:
        return ()
    shown = ", ".join(f"{shift.feature} {shift.psi:.2f}" for shift in notable[:3])
    more = f" and {len(notable) - 3} more" if len(notable) > 3 else ""
    return (Alarm("features", at_row, width, f"the rows are others than those learned from: PSI of {shown}{more}"),)
