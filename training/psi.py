"""The population stability index of features: have the rows become others than those a model learned from?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

Floats = NDArray[np.float64]

NOTABLE: Final = 0.25
"""The index from which a shift is worth a retraining, however certain a smaller one is (the trade's usual 0.25)."""
_N_BINS: Final = 10
_FEWEST_EXPECTED: Final = 5.0


@dataclass(frozen=True, slots=True)
class Shift:
    """The index of one feature and the bound that unchanged rows exceed with the chance `alpha` of the caller."""

    feature: str
    psi: float
    bound: float

    @property
    def notable(self) -> bool:
        """Both certain (above its bound) and large."""
        return self.psi > max(self.bound, NOTABLE)


def psi(reference: NDArray[np.int64], actual: NDArray[np.int64]) -> float:
    """Σ (a − r) · ln(a / r) over the shares of bins, from counts of shape (n_bins,) each; half a row is added to every
    bin, so that an empty one gives a large index, not an infinite one.

    Source: Lewis 1994, "An introduction to credit scoring"; it is Jeffreys' divergence.
    """
    r = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
    a = (actual + 0.5) / (actual.sum() + 0.5 * len(actual))
    return float(np.sum((a - r) * np.log(a / r)))


def psi_bound(n_reference: int, n_actual: int, n_bins: int, alpha: float) -> float:
    """What the index of `n_bins` bins exceeds with chance `alpha` when nothing changed: (1/n + 1/m) · χ²(B − 1).

    It holds for independent rows; rows of one campaign or week resemble each other and exceed it more often.
    Source: Yurdakul 2018, "Statistical properties of population stability index".
    """
    return 0.0 if n_bins < 2 else float((1 / n_reference + 1 / n_actual) * chdtri(n_bins - 1, alpha))


def shifts(
    reference: Floats, actual: Floats, features: Sequence[str], categorical: frozenset[str], alpha: float = 0.001
) -> tuple[Shift, ...]:
    """The shift of every feature, largest first; `reference` (n, f) and `actual` (m, f) may hold NaN = missing.

    `alpha` is for all features together (Bonferroni). Missing is a bin of its own; codes are bins, numbers ten
    quantiles of the reference; what holds fewer than five expected rows of either side is pooled.
    """
    if len(reference) == 0 or len(actual) == 0:
        return ()
    found = []
    for index, name in enumerate(features):
        old, new = _counts(reference[:, index], actual[:, index], name in categorical)
        bound = psi_bound(len(reference), len(actual), len(old), alpha / len(features))
        found.append(Shift(name, psi(old, new) if len(old) > 1 else 0.0, bound))
    return tuple(sorted(found, key=lambda shift: -shift.psi))


def _counts(reference: Floats, actual: Floats, is_categorical: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    both = np.concatenate([reference, actual])
    known = ~np.isnan(both)
    where = np.zeros(len(both), dtype=np.int64)
    values = reference[~np.isnan(reference)]
    if is_categorical or len(values) == 0:
        where[known] = 1 + np.unique(both[known], return_inverse=True)[1]
    else:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _N_BINS + 1)[1:-1]))
        where[known] = 1 + np.searchsorted(edges, both[known], side="left")
    size = int(where.max()) + 1
    old, new = (np.bincount(part, minlength=size) for part in np.split(where, [len(reference)]))
    expected = (old + new) / len(both) * min(len(reference), len(actual))
    rare = expected < _FEWEST_EXPECTED
    if rare.any():
        old, new = (np.append(counts[~rare], counts[rare].sum()) for counts in (old, new))
    full = (old + new) > 0
    return old[full], new[full]
