"""Tier 1's suggestions and Tier 2's choice in one answer: five modes, blended scores, and how far the two agree.

Both tiers' opinions of an item are put on one scale, log-odds of conversion relative to p(none), and pooled:

    logit(blend) = logit(p none) + (1 − w)·z₁ + w·z₂

z₂ is what Tier 2 knows: logit p(offer) − logit p(none) for a suggestion that is an offer of the campaign, else what
the visitor has shown in the item (in the cart, viewed in this visit), by documented log-odds until outcomes are known.
z₁ is Tier 1's: of its ranks −ln(rank), centred, as attention falls with the place (Craswell et al., WSDM 2008); of
scores that are probabilities their logit, made to fall with the rank by isotonic regression, since the order is what
Tier 1 means. A logarithmic pool (Genest, Zidek 1986) is monotone in both; at w = 0 the order is Tier 1's, at w = 1
it is Tier 2's, and equal items stay in Tier 1's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from engine.compiled import CompiledCampaign
from engine.decision import APPRENTICE, BLENDED, DIVERGED, TIER1, Decision, Item
from engine.inputs import Inputs

IN_CART, VIEWED = 1.4, 0.7
"""Log-odds for a suggestion that is in the cart (odds × 4) or was viewed in this visit (× 2)."""
EPSILON: Final = 1e-6
MAX_BLENDED: Final = 200
"""Suggestions that are reordered; those behind them keep their places."""


def arrange(decision: Decision, campaign: CompiledCampaign, chosen: list[Item], inputs: Inputs) -> bool:
    """Put the items of the answer together; False where Tier 1 is served alone and the chosen offers are not shown."""
    spec, limit = campaign.tier1, inputs.request.limit
    base = inputs.request.base
    if len(chosen) > 1:
        # What matters most loads first, in whatever order it was drawn.
        chosen = sorted(chosen, key=lambda item: -_priority(campaign, item))
    if not base:
        decision.items = [] if spec.mode == "apprentice" else chosen[:limit]
        if spec.mode == "apprentice":
            decision.plain = APPRENTICE
            decision.harmony = [spec.mode, None, None, [item.id for item in chosen[:limit]]]
        return spec.mode != "apprentice"
    own = base_items(inputs)
    if spec.mode == "fill":
        items = _once(own + chosen, limit)
    elif spec.mode == "suppress":
        items = chosen[:limit] if chosen else own
    else:
        weight = 1.0 if spec.mode == "override" else spec.weight
        items = _once(chosen + blended(decision, inputs, weight, spec.scores), limit)
    agreement = overlap([i.id for i in items], [i.id for i in own])
    if spec.mode == "apprentice":
        decision.plain = APPRENTICE
        decision.items = own
        decision.harmony = [spec.mode, agreement, None, [item.id for item in items]]
        return False
    divergence = None
    if spec.divergence is not None:
        kept = [item.id for item in items if item.kind == "base"]
        divergence = 1.0 - overlap(kept, _meant(base, chosen, len(kept)))
        if divergence > spec.divergence:
            decision.plain = DIVERGED
            decision.items = own
            decision.harmony = [spec.mode, agreement, divergence, [item.id for item in items]]
            return False
    decision.items = items
    decision.harmony = [spec.mode, agreement, divergence, None]
    return True


def base_items(inputs: Inputs, reason: str = TIER1) -> list[Item]:
    """Tier 1's suggestions as they came; `reason` is why there is nothing else."""
    return [_as_it_came(b, reason) for b in inputs.request.base[: inputs.request.limit]]


def blended(decision: Decision, inputs: Inputs, weight: float, scores: str) -> list[Item]:
    """Every suggestion in the order of the blend, with the blended probability as its score where there is one."""
    base, none = inputs.request.base, decision.conversion
    known = opinions(decision, inputs)
    if none is None or not known or weight == 0.0 or len(base) < 2:
        return [_as_it_came(b) for b in base]
    head = base[:MAX_BLENDED]
    origin = logit(none)
    theirs = tier1_opinion(head, scores, origin)
    points = [(1.0 - weight) * z + weight * known.get(b["id"], 0.0) for b, z in zip(head, theirs, strict=True)]
    order = sorted(range(len(head)), key=lambda i: -points[i])
    ranked = [Item(head[i]["id"], "base", head[i].get("content"), _p(origin + points[i]), 1.0, BLENDED) for i in order]
    return ranked + [_as_it_came(b) for b in base[MAX_BLENDED:]]


def opinions(decision: Decision, inputs: Inputs) -> dict[str, float]:
    """Tier 2's log-odds, relative to p(none), of those suggestions it knows something of."""
    found = {item: IN_CART if shown > 1 else VIEWED for item, shown in (inputs.interest or {}).items()}
    if decision.conversion is not None:
        suggested = {b["id"] for b in inputs.request.base}
        for verdict in decision.verdicts:
            if verdict.p is not None and verdict.offer in suggested:
                found[verdict.offer] = logit(verdict.p) - logit(decision.conversion)
    return found


def tier1_opinion(base: Sequence[dict[str, Any]], scores: str, origin: float) -> list[float]:
    """Tier 1's log-odds for its suggestions in their order, relative to `origin`; never rising."""
    if scores == "probability":
        given: list[float] = []
        for b in base:
            p = b.get("score")
            # A suggestion without a score is meant to stand where it stands.
            given.append(logit(p) - origin if p is not None else given[-1] if given else 0.0)
        return falling(given)
    logs = [-math.log(rank) for rank in range(1, len(base) + 1)]
    mean = sum(logs) / len(logs)
    return [x - mean for x in logs]


def falling(values: Sequence[float]) -> list[float]:
    """The nearest sequence (least squares) that never rises: isotonic regression by pooling adjacent violators.

    Source: Barlow, Bartholomew, Bremner, Brunk 1972.

    >>> falling([3.0, 1.0, 2.0, 0.0])
    [3.0, 1.5, 1.5, 0.0]
    """
    pools: list[tuple[float, int]] = []
    for value in values:
        total, n = value, 1
        while pools and pools[-1][0] / pools[-1][1] < total / n:
            more, m = pools.pop()
            total, n = total + more, n + m
        pools.append((total, n))
    return [total / n for total, n in pools for _ in range(n)]


def overlap(mine: Sequence[str], theirs: Sequence[str]) -> float:
    """How far two orders agree from the top: 1 for the same, 0 for nothing in common.

    The average overlap: |first d of both| / d, averaged over every depth d. Source: Fagin, Kumar, Sivakumar,
    "Comparing top k lists" (2003).

    >>> overlap("abc", "abc"), overlap("abc", "xyz"), overlap("ab", "ba")
    (1.0, 0.0, 0.5)
    """
    depth = max(len(mine), len(theirs))
    if depth == 0:
        return 1.0
    a: set[str] = set()
    b: set[str] = set()
    total = 0.0
    for d in range(depth):
        a.update(mine[d : d + 1])
        b.update(theirs[d : d + 1])
        total += len(a & b) / max(len(a), len(b))
    return total / depth


def _priority(campaign: CompiledCampaign, item: Item) -> int:
    offer = campaign.offer_by_name.get(item.id)
    return 0 if offer is None else offer.priority


def tell_source(body: dict[str, Any], source: str) -> None:
    """Say in an answer where Tier 1's suggestions came from, or why there were none."""
    told = body.setdefault("tier1", {"mode": None, "agreement": None, "divergence": None, "would": None})
    told["source"] = source
    if source.startswith("TIER1_") and body["degraded"] is None:
        body["degraded"] = {"rung": "model", "reason": source}


def logit(p: float) -> float:
    """Log-odds, of a probability kept a millionth away from 0 and 1."""
    p = min(1.0 - EPSILON, max(EPSILON, p))
    return math.log(p / (1.0 - p))


def _p(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z))


def _as_it_came(b: dict[str, Any], reason: str = TIER1) -> Item:
    return Item(b["id"], "base", b.get("content"), b.get("score"), 1.0, reason)


def _once(items: list[Item], limit: int) -> list[Item]:
    """The first of each id: an offer that Tier 1 suggests as well is shown once."""
    kept: dict[str, Item] = {}
    for item in items:
        kept.setdefault(item.id, item)
        if len(kept) == limit:
            break
    return list(kept.values())


def _meant(base: Sequence[dict[str, Any]], chosen: list[Item], n: int) -> list[str]:
    """What Tier 1 would have in the places that its suggestions got."""
    taken = {item.id for item in chosen}
    return [b["id"] for b in base if b["id"] not in taken][:n]
