"""The gates a candidate passes before any visitor meets it: champion and candidate on the newest matured rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from training.metrics import auc, calibration_ratio

Floats = NDArray[np.float64]
Gate = Literal[
    "rows", "finite", "range", "constant", "log_loss", "calibration", "leakage", "latency", "value", "schema"
]

FEWEST_ROWS: Final = 50
FEWEST_OF_A_CLASS: Final = 5
_Z: Final = 1.645
"""One-sided 5 %: what is fewer standard errors away may be chance."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much worse than the champion a candidate may look.

    `worse_log_loss` is a share of the champion's mean log-loss; `off_by` is the factor by which predicted and observed
    conversions may differ before calibration is held against it. `forgiven` is how many standard errors of the paired
    log-loss a candidate may be worse: after a drift alarm (`after_drift`) the burden of proof is the champion's.
    """

    worse_log_loss: float = 0.0
    off_by: float = 1.15
    forgiven: float = 0.0

    def after_drift(self) -> Limits:
        """For a candidate grown because the world has changed: refused only where it is worse beyond chance."""
        return replace(self, forgiven=max(self.forgiven, _Z))


@dataclass(frozen=True, slots=True)
class Finding:
    """One gate with its numbers: what was measured, what the limit was, and further figures by name.

    `undecided` is a gate that could not be asked: it refuses nobody, and says why.
    """

    gate: Gate
    passed: bool
    value: float
    limit: float
    sentence: str
    undecided: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)

    def told(self) -> dict[str, float | str | None]:
        """As JSON, for a run's document and a model's card; what is no number is null."""
        figures = {"value": self.value, "limit": self.limit, **self.figures}
        verdict = "undecided" if self.undecided else "passed" if self.passed else "refused"
        known = {name: float(x) if math.isfinite(x) else None for name, x in figures.items()}
        return {"gate": self.gate, "verdict": verdict, "sentence": self.sentence, **known}


@dataclass(frozen=True, slots=True)
class Judgement:
    """All findings; passed when each of them is."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether the candidate may go on."""
        return all(finding.passed for finding in self.findings)

    @property
    def why_not(self) -> str | None:
        """The first finding that refuses, as a sentence."""
        return next((finding.sentence for finding in self.findings if not finding.passed), None)


def judge(y: Floats, champion: Floats, candidate: Floats, limits: Limits | None = None) -> Judgement:
    """Compare predictions of shape (n,) for rows with outcomes `y`, none of which either model learned from.

    Cheap and certain gates first; the statistical ones are asked only of numbers that are probabilities.
    """
    limits = limits or Limits()
    sound = (check_rows(y), *check_probabilities(candidate), _says_something(champion, candidate))
    if not all(finding.passed for finding in sound):
        return Judgement(sound)
    return Judgement((*sound, _log_loss(y, champion, candidate, limits), _calibration(y, champion, candidate, limits)))


def check_probabilities(candidate: Floats) -> tuple[Finding, ...]:
    """Finite, and inside (0, 1), shape (n,): a model that fails either never answers anybody."""
    n_strange = int((~np.isfinite(candidate)).sum())
    finite = Finding("finite", n_strange == 0, n_strange, 0, f"{n_strange} of {len(candidate)} scores are no numbers")
    known = candidate[np.isfinite(candidate)]
    n_outside = int(((known <= 0) | (known >= 1)).sum())
    words = f"{n_outside} of {len(candidate)} scores are not inside (0, 1)"
    return finite, Finding("range", n_outside == 0, n_outside, 0, words)


def check_rows(y: Floats) -> Finding:
    """Enough matured rows of both outcomes, `y` of shape (n,), to judge anything by."""
    rarer = int(min(y.sum(), len(y) - y.sum()))
    enough = len(y) >= FEWEST_ROWS and rarer >= FEWEST_OF_A_CLASS
    words = f"{len(y)} matured rows, {rarer} of the rarer outcome: {FEWEST_ROWS} and {FEWEST_OF_A_CLASS} are needed"
    return Finding("rows", enough, rarer, FEWEST_OF_A_CLASS, words)


def _says_something(champion: Floats, candidate: Floats) -> Finding:
    spread, before = (float(np.ptp(p)) if len(p) else 0.0 for p in (candidate, champion))
    words = f"its answers spread over {spread:.4f}, the champion's over {before:.4f}"
    return Finding("constant", not spread <= 0 or before == 0, spread, 0, words)


def _log_loss(y: Floats, champion: Floats, candidate: Floats, limits: Limits) -> Finding:
    """Paired: the rows' difficulty cancels, so that far fewer of them decide than for either figure alone."""
    old, new = losses(y, champion), losses(y, candidate)
    worse, error = float((new - old).mean()), float((new - old).std()) / math.sqrt(len(y))
    allowed = limits.worse_log_loss * float(old.mean()) + limits.forgiven * error
    words = f"log-loss {new.mean():.4f} against the champion's {old.mean():.4f} on {len(y)} rows"
    if auc(y, candidate) < 0.5 <= auc(y, champion):
        words += f"; it ranks worse than chance (AUC {auc(y, candidate):.3f})"
    return Finding("log_loss", worse <= allowed, worse, allowed, words)


def _calibration(y: Floats, champion: Floats, candidate: Floats, limits: Limits) -> Finding:
    """Refused is what is off by more than the limit, beyond chance, and further than the champion is.

    Except that a paired log-loss that is better beyond chance outweighs it: it counts calibration in. Beyond chance
    is |Σp − Σy| against √Σp(1−p) (Spiegelhalter 1986). In a drift the champion is off as well, and the candidate that
    is less so is the cure.
    """
    ratio, before = calibration_ratio(y, candidate), calibration_ratio(y, champion)
    off, off_before = abs(math.log(ratio)), abs(math.log(before))
    z = float(abs(candidate.sum() - y.sum()) / np.sqrt((candidate * (1 - candidate)).sum()))
    passed = off <= math.log(limits.off_by) or z <= _Z or off <= off_before or is_better(y, champion, candidate)
    words = f"it predicts {ratio:.2f} × the observed conversions (the champion {before:.2f} ×), {z:.1f} deviations off"
    return Finding("calibration", passed, ratio, limits.off_by, words)


def is_better(y: Floats, old: Floats, new: Floats) -> bool:
    """Whether the paired log-loss of `new` is lower beyond chance (one-sided 5 %); all of shape (n,)."""
    gain = losses(y, old) - losses(y, new)
    return bool(gain.mean() > _Z * gain.std() / math.sqrt(len(y)))


def losses(y: Floats, p: Floats) -> Floats:
    """Log-loss of each row in nats, shape (n,); `p` is held 1e-15 away from 0 and 1."""
    held = np.clip(p, 1e-15, 1 - 1e-15)
    return np.asarray(-(y * np.log(held) + (1 - y) * np.log1p(-held)), dtype=np.float64)
