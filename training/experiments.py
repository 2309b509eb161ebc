"""Experiments evaluated: one outcome a visitor from the first exposure on, intervals that are valid at every look."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from training.evidence import SRM_ALPHA, share_interval, srm_log_e, threshold
from training.example import Example
from training.sequences import Running, bounds, contrast, interval

ALPHA: Final = 0.05


@dataclass(frozen=True, slots=True)
class Assigned:
    """A decision of an experiment: which visitor, which variant, and whether the variant could change the answer."""

    key: str
    experiment: str
    """`campaign.experiment`."""
    variant: str
    root: str
    t_ms: int
    exposed: bool


@dataclass(slots=True)
class Visitor:
    """One visitor in one experiment. Outcomes count from the first exposure on; `variants` above one is a crossover."""

    variants: set[str] = field(default_factory=set)
    exposed_ms: int | None = None


class Experiments:
    """Verbs: assign, leave_out, learn, results. Of a decision's examples that of the latest revision counts."""

    def __init__(self) -> None:
        self._visitors: dict[str, dict[str, Visitor]] = {}
        self._of: dict[str, tuple[str, str, int]] = {}
        self._outcomes: dict[str, tuple[int, int, float, bool]] = {}
        self._left_out: set[str] = set()

    def assign(self, one: Assigned) -> None:
        """A decision that was taken under a variant."""
        visitor = self._visitors.setdefault(one.experiment, {}).setdefault(one.root, Visitor())
        visitor.variants.add(one.variant)
        if one.exposed and (visitor.exposed_ms is None or one.t_ms < visitor.exposed_ms):
            visitor.exposed_ms = one.t_ms
        self._of[one.key] = (one.experiment, one.root, one.t_ms)

    def leave_out(self, root: str) -> None:
        """A visitor who turned out to be a bot counts nowhere, whatever was assigned before."""
        self._left_out.add(root)

    def learn(self, examples: Iterable[Example]) -> None:
        """What came of decisions; those of no experiment are left out."""
        for example in examples:
            if example.key in self._of and example.revision > self._outcomes.get(example.key, (0, 0, 0.0, False))[0]:
                label = 0 if example.withdrawn else example.label
                counts = example.matured and not example.withdrawn
                self._outcomes[example.key] = (example.revision, label, example.value, counts)

    def results(self, planned: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """The standing of each experiment `campaign.experiment`, whose variants are named in the order of the book."""
        outcomes: dict[tuple[str, str], tuple[int, float]] = {}
        for key, (experiment, root, t_ms) in self._of.items():
            _, label, value, counts = self._outcomes.get(key, (0, 0, 0.0, False))
            since = self._visitors[experiment][root].exposed_ms
            if not counts or since is None or t_ms < since:
                continue
            best, most = outcomes.get((experiment, root), (0, 0.0))
            # Several decisions may have led to one order, which counts once.
            outcomes[experiment, root] = (max(best, label), max(most, value if label else 0.0))
        return [self._standing(name, list(variants), outcomes) for name, variants in planned.items()]

    def _standing(
        self, name: str, variants: list[str], outcomes: Mapping[tuple[str, str], tuple[int, float]]
    ) -> dict[str, Any]:
        visitors = {root: one for root, one in self._visitors.get(name, {}).items() if root not in self._left_out}
        crossed = sum(len(one.variants) > 1 for one in visitors.values())
        arms: dict[str, list[tuple[int, float]]] = {variant: [] for variant in variants}
        assigned, exposures = dict.fromkeys(variants, 0), dict.fromkeys(variants, 0)
        for root, one in visitors.items():
            variant = next(iter(one.variants))
            if len(one.variants) > 1 or variant not in arms:
                continue
            assigned[variant] += 1
            exposures[variant] += one.exposed_ms is not None
            if (name, root) in outcomes:
                arms[variant].append(outcomes[name, root])
        plan = [1.0 / len(variants)] * len(variants)
        log_e = max(float(srm_log_e(list(n.values()), plan)) for n in (assigned, exposures))
        sound = log_e < threshold(SRM_ALPHA)
        control = variants[0]
        told = [
            _variant(v, assigned[v], exposures[v], arms[v], arms[control] if v != control else None, len(variants) - 1)
            for v in variants
        ]
        return {
            "experiment": name, "control": control, "variants": told, "crossovers": crossed,
            "sampleRatio": {"logE": log_e, "limit": threshold(SRM_ALPHA), "sound": sound},
            "verdict": _verdict(told) if sound else "invalid: visitors are not split as planned",
            "confidence": 1 - ALPHA, "anyTimeValid": True,
        }  # fmt: skip


def _variant(
    name: str, n_assigned: int, n_exposed: int, seen: list[tuple[int, float]], control: list[tuple[int, float]] | None,
    n_compared: int,
) -> dict[str, Any]:  # fmt: skip
    converted, worth = _running(x for x, _ in seen), _running(x for _, x in seen)
    # The variants share the error between them.
    alpha = ALPHA / max(1, n_compared)
    # Of a share an exact interval is known from the first visitor on, also where nobody has converted.
    share = share_interval(sum(x for x, _ in seen), len(seen), ALPHA) if seen else (-math.inf, math.inf)
    told: dict[str, Any] = {
        "variant": name, "assigned": n_assigned, "exposed": n_exposed, "matured": len(seen),
        "conversion": {"mean": converted.mean, **_between(share)},
        "value": {"mean": worth.mean, **_between(interval(worth, ALPHA))},
    }  # fmt: skip
    if control is not None:
        worth_of_control = _running(x for _, x in control)
        pairs = ("conversion", converted, _running(x for x, _ in control)), ("value", worth, worth_of_control)
        for key, mine, other in pairs:
            apart = contrast((other.n, mine.n), (other.mean, mine.mean), (other.variance, mine.variance))
            low, high = interval(apart, alpha)
            told[key]["minusControl"] = {"mean": mine.mean - other.mean, **_between((low, high)),
                                         "atLeast": _finite(bounds(apart, alpha)[0])}  # fmt: skip
    return told


def _running(values: Iterable[float]) -> Running:
    running = Running()
    running.add([float(x) for x in values])
    return running


def _between(limits: tuple[float, float]) -> dict[str, float | None]:
    return {"lower": _finite(limits[0]), "upper": _finite(limits[1])}


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _verdict(told: list[dict[str, Any]]) -> str:
    """What may be said now, in words; it holds whenever one looks."""
    better, worse = [], []
    for one in told:
        apart = one["conversion"].get("minusControl")
        if apart is None or apart["lower"] is None:
            continue
        if apart["lower"] > 0:
            better.append((apart["mean"], one["variant"]))
        elif apart["upper"] < 0:
            worse.append(one["variant"])
    if better:
        return f"{max(better)[1]} converts more than control"
    return f"{', '.join(worse)} converts less than control" if worse else "no difference is shown yet"
