"""Thompson sampling as numbers: how likely each belief is to be worth most, by one quadrature for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

Nodes = tuple[tuple[float, float], ...]

_REACH: Final = 3.9
"""Deviations from a mean that are looked at; what lies beyond weighs 5e-5."""
_DENSITY: Final = 1.5
"""Nodes a smallest deviation: the error of a share stays below 3e-4 (measured)."""
_MOST: Final = 20
"""Nodes of a segment; what needs more is cut into several, of 9 nodes each."""
_RULES: Final = tuple(
    tuple((float(x), float(w)) for x, w in zip(*np.polynomial.legendre.leggauss(n), strict=True))
    for n in range(1, _MOST + 1)
)
"""Nodes and weights of Gauss–Legendre, the rule of n nodes at n − 1."""
_NODES: Final = _RULES[8]
_ROOT_HALF: Final = math.sqrt(0.5)


def winning(beliefs: Sequence[tuple[float, float]], floor: float) -> list[float]:
    """P(i is worth most, and more than `floor`) for independent normal beliefs (mean, deviation > 0).

    P(i) = ∫ φᵢ(x) ∏_{j≠i} Φⱼ(x) dx over x > floor, as ∫ (φᵢ/Φᵢ) ∏ⱼ Φⱼ: every Φⱼ is computed once a node, so that the
    cost grows with the number of beliefs and not with its square. By Gauss–Legendre, with as many nodes as the finest
    belief asks for. Source: Thompson (1933); Russo et al., "A tutorial on Thompson sampling" (2018).
    """
    # Below its reach some belief is all but sure to be higher; a belief that ends there never wins and hinders nobody.
    low = max([floor, *[m - _REACH * d for m, d in beliefs]])
    alive = [(i, m, _ROOT_HALF / d) for i, (m, d) in enumerate(beliefs) if m + _REACH * d > low]
    shares = [0.0] * len(beliefs)
    if not alive:
        return shares
    if len(alive) == 1:
        i, m, scale = alive[0]
        shares[i] = 0.5 * math.erfc((low - m) * scale)
        return shares
    exp, erfc = math.exp, math.erfc
    sums = [0.0] * len(alive)
    places = range(len(alive))
    for start, end, nodes in _segments([beliefs[i] for i, _, _ in alive], low):
        middle, half = 0.5 * (start + end), 0.5 * (end - start)
        for node, weight in nodes:
            x = middle + half * node
            product, ratios = weight * half, []
            for _, m, scale in alive:
                z = (m - x) * scale
                above = erfc(z)
                product *= above
                ratios.append(scale * exp(-z * z) / above)
            for k in places:
                sums[k] += product * ratios[k]
    unit = 2.0 * 0.5 ** len(alive) / math.sqrt(math.pi)
    for (i, _, _), total in zip(alive, sums, strict=True):
        shares[i] = unit * total
    return shares


def _segments(beliefs: Sequence[tuple[float, float]], low: float) -> list[tuple[float, float, Nodes]]:
    """Where to put nodes: over all at once where the deviations are alike, else between the reaches of each belief."""
    high = max([m + _REACH * d for m, d in beliefs])
    n = math.ceil(_DENSITY * (high - low) / min([d for _, d in beliefs]))
    if n <= _MOST:
        return [(low, high, _RULES[n - 1])]
    near = {x for m, d in beliefs for k in (-_REACH, -2.0, 0.0, 2.0, _REACH) if low < (x := m + k * d) < high}
    return [(a, b, _NODES) for a, b in pairwise([low, *sorted(near), high]) if b > a]
