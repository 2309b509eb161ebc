"""Who has been observed in a rollout, once each, and the totals of that: corrected, crossed over, forgotten, kept."""

from __future__ import annotations

import io
import math
import zlib
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.evidence import ratio_interval
from training.example import Example, Trial
from training.rollout_evidence import (
    CONVERTED,
    ENGAGED,
    ERRORS,
    FAULTS,
    LOSS,
    PAIRS,
    SEEN,
    SLOW,
    SLOW_AT,
    USERS,
    WIDTH,
    Floats,
    Readings,
    contributions,
    read,
)
from training.rollout_plan import Plan

MAX_USERS: Final = 500_000
"""Observed at most; later ones add nothing, and the horizon ends the rollout."""
CHUNK: Final = 20_000
N_TIMES: Final = 2000
FEWEST_TIMES: Final = 200


class Users:
    """One observation a user: the first decision that matured in shadow, and the first in a canary.

    In a canary a user of the shadow counts for the arms and not again for the scores. Whoever is seen in both arms of
    one stage leaves the analysis, and so does a decision that is withdrawn. A later revision of an observed decision (a
    refund, a late order) corrects it.
    """

    def __init__(self, rollout_id: str, plan: Plan) -> None:
        self.rollout_id, self.plan = rollout_id, plan
        self._seen = np.zeros(0, SEEN)
        self._n = 0
        self._index: dict[int, int] = {}
        self._totals = np.zeros((len(plan.stages), WIDTH))
        self._times: deque[float] = deque(maxlen=N_TIMES)
        self.slow_above: tuple[float, ...] | None = None
        self.n_crossed = 0

    def __len__(self) -> int:
        return self._n

    def observe(self, examples: Iterable[Example]) -> int:
        """Take in what has become of decisions, in any order and any number of times; how many changed something."""
        new: list[int] = []
        n_changed = 0
        for example in examples:
            trial = example.trial
            if trial is None or trial[0] != self.rollout_id or not (example.matured or example.withdrawn):
                continue
            share = 0.0 if trial[1] == "shadow" else float(str(trial[1]).partition("-")[2])
            place = self.plan.place_of(share)
            if place is None:
                continue
            n_changed += self._take(example, trial, place, new)
        self._add(new)
        return n_changed

    def _take(self, example: Example, trial: Trial, place: int, new: list[int]) -> bool:
        user, key = _hash(example.track), _hash(example.key)
        arm = int(trial[2] == "challenger")
        canary = place >= self.plan.shadows
        at = self._index.get(2 * user + canary)
        if at is None:
            if self._n >= MAX_USERS or example.withdrawn:
                return False
            new.append(self._append(example, trial, user, key, place, arm))
            return True
        row = self._seen[at]
        if row["key"] == key:
            if example.revision <= row["revision"]:
                return False
            self._add(new)
            if example.withdrawn:
                self._forget(at)
            else:
                self._change(at, revision=example.revision, label=example.label, engaged=int(example.engaged))
            return True
        if row["stage"] == place and row["arm"] != arm and not row["gone"]:
            self._add(new)
            self._change(at, gone=1)
            self.n_crossed += 1
            return True
        return False

    def _append(self, example: Example, trial: Trial, user: int, key: int, place: int, arm: int) -> int:
        canary = place >= self.plan.shadows
        took = float(example.took_us) or math.nan
        self._freeze(canary, arm, took)
        if self._n == len(self._seen):
            self._seen = np.concatenate((self._seen, np.zeros(max(256, self._n), SEEN)))
        scores = [math.nan if p is None else float(p) for p in trial[3:5]]
        paired = not canary or 2 * user not in self._index
        timed = canary and self.slow_above is not None and math.isfinite(took)
        self._seen[self._n] = (
            user, key, example.revision, place, arm, example.label, int(example.engaged), int(example.degraded),
            int(paired), int(timed), 0, tuple(scores), took,
        )  # fmt: skip
        self._index[2 * user + canary] = self._n
        self._n += 1
        return self._n - 1

    def _freeze(self, canary: bool, arm: int, took: float) -> None:
        """The champion's times until the canary, or its first ones there, say from where on an answer is slow."""
        if self.slow_above is not None:
            return
        if canary and len(self._times) >= FEWEST_TIMES:
            self.slow_above = tuple(float(t) for t in np.quantile(np.array(self._times), SLOW_AT))
        elif arm == 0 and math.isfinite(took):
            self._times.append(took)

    def _add(self, new: list[int]) -> None:
        for begin in range(0, len(new), CHUNK):
            rows = self._seen[np.array(new[begin : begin + CHUNK])]
            np.add.at(self._totals, rows["stage"].astype(np.intp), contributions(rows, self.slow_above))
        new.clear()

    def _change(self, at: int, **fields: int) -> None:
        row = self._seen[at : at + 1]
        place = int(row["stage"][0])
        self._totals[place] -= contributions(row, self.slow_above)[0]
        for name, value in fields.items():
            row[name] = value
        self._totals[place] += contributions(row, self.slow_above)[0]

    def _forget(self, at: int) -> None:
        """Take a decision out of the analysis, and lose the thread to whoever it was."""
        self._change(at, gone=1)
        row = self._seen[at]
        del self._index[2 * int(row["user"]) + int(row["stage"] >= self.plan.shadows)]
        row["user"] = row["key"] = 0

    def readings(self, place: int, *, scored: bool) -> Readings:
        """All guards as of now, in the stage at this place."""
        stages = [(stage.share, self._totals[i]) for i, stage in enumerate(self.plan.stages[: place + 1])]
        return read(stages, self.plan, scored=scored)

    @property
    def n_exposed(self) -> int:
        """Users observed with the challenger."""
        return int(self._totals[:, USERS + 1].sum())

    def numbers(self, place: int, *, scored: bool) -> dict[str, Any]:
        """The evidence as people read it, for the audit log and for `GET /v1/rollouts`."""
        readings = self.readings(place, scored=scored)
        alpha = self.plan.alpha
        stages = [
            {"stage": stage.text, "share": stage.share, **_arms(totals, stage.share, alpha)}
            for stage, totals in zip(self.plan.stages[: place + 1], self._totals, strict=False)
        ]
        pooled = self._totals[: place + 1].sum(axis=0)
        told: dict[str, Any] = {
            "users": int(pooled[USERS] + pooled[USERS + 1]), "exposed": self.n_exposed, "crossedOver": self.n_crossed,
            "guards": {name: _round(value) for name, value in readings.guards.items()},
            "sampleRatio": _round(readings.srm), "notWorse": _round(readings.not_worse), "stages": stages,
            "slowAboveUs": None if self.slow_above is None else [round(t) for t in self.slow_above],
        }  # fmt: skip
        if scored:
            told["logLoss"] = {
                "pairs": int(pooled[PAIRS]), "champion": _round(pooled[LOSS] / max(pooled[PAIRS], 1), 6),
                "difference": _round(readings.worse, 6), "upper": _round(readings.worse_upper, 6),
                "allowed": _round(readings.allowed, 6),
            }  # fmt: skip
            told["scoreFaults"] = int(pooled[FAULTS])
        return told

    def snapshot(self) -> dict[str, Any]:
        """Everything, as JSON keeps it; `restore` makes an equal one."""
        out = io.BytesIO()
        np.save(out, self._seen[: self._n], allow_pickle=False)
        return {
            "rollout": self.rollout_id, "seen": b64encode(zlib.compress(out.getvalue(), 1)).decode(),
            "slow_above": self.slow_above, "times": list(self._times), "crossed": self.n_crossed,
        }  # fmt: skip

    @classmethod
    def restore(cls, fields: dict[str, Any], plan: Plan) -> Users:
        """What `snapshot` gave."""
        users = cls(fields["rollout"], plan)
        raw = zlib.decompress(b64decode(fields["seen"]))
        users._seen = np.load(io.BytesIO(raw), allow_pickle=False).astype(SEEN)
        users._n = len(users._seen)
        canary = users._seen["stage"] >= plan.shadows
        hashes = users._seen["user"].tolist()
        users._index = {2 * u + int(c): i for i, (u, c) in enumerate(zip(hashes, canary, strict=True)) if u}
        users.slow_above = None if fields["slow_above"] is None else tuple(fields["slow_above"])
        users._times.extend(fields["times"])
        users.n_crossed = fields["crossed"]
        users._add(list(range(users._n)))
        return users


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _arms(totals: Floats, share: float, alpha: float) -> dict[str, Any]:
    if not share:
        return {"users": int(totals[USERS])}
    pairs = {
        "users": USERS, "conversions": CONVERTED, "engaged": ENGAGED, "errors": ERRORS, "slow50": SLOW,
        "slow95": SLOW + 2, "slow99": SLOW + 4,
    }  # fmt: skip
    told: dict[str, Any] = {name: [int(totals[at]), int(totals[at + 1])] for name, at in pairs.items()}
    for name, at in (("conversion", CONVERTED), ("engagement", ENGAGED)):
        mine, all_ = float(totals[at + 1]), float(totals[at] + totals[at + 1])
        told[f"{name}Ratio"] = [_round(bound) for bound in ratio_interval(mine, all_, share, alpha)]
    return told


def _round(value: float | NDArray[np.float64], digits: int = 3) -> float | None:
    number = float(value)
    return round(number, digits) if math.isfinite(number) else None
