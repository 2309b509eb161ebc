"""Posteriors from examples: how often each offer converted in each segment, against what the model expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.posteriors import Belief
from training.window import Matured

Predict = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Rows of shape (n, n_features) to conversion probabilities of shape (n,)."""
Beliefs = dict[str, dict[str, Belief]]


def beliefs_of(rows: Matured, predict: Predict, known: Sequence[str] | None = None) -> Beliefs:
    """Beliefs by `campaign.offer` (`campaign.` for none) and segment; pure, and the same in any order of the rows.

    `known` limits them to the offers of the book in force, whose names alone are asked for. Where nothing else could
    be shown, none teaches nothing of a choice.
    """
    if not rows.key:
        return {}
    expected = predict(rows.x)
    cells: dict[tuple[str, str], list[int]] = {}
    open_choice = (rows.propensity < 1.0).tolist()
    for i, (campaign, offer, segment) in enumerate(zip(rows.campaign, rows.offer, rows.segment, strict=True)):
        if offer is None and not open_choice[i]:
            continue
        cells.setdefault((f"{campaign}.{offer or ''}", segment), []).append(i)
    beliefs: Beliefs = {}
    for (key, segment), places in sorted(cells.items()):
        if known is not None and key not in known and not key.endswith("."):
            continue
        p = expected[places]
        sound = np.isfinite(p)
        n, converted = float(np.sum(sound)), float(np.sum(rows.y[places][sound]))
        # Rounded, so that the order in which floats are added is no new version.
        sums = (round(float(np.sum(part)), 6) for part in (p[sound], p[sound] * (1.0 - p[sound])))
        beliefs.setdefault(key, {})[segment] = Belief(n, converted, *sums)
    return beliefs
