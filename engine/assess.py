"""Reading a visitor: predictions, stage, score, segments. Shared by decisions and by signals as they arrive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.compiled import CompiledBook, CompiledCampaign
from engine.features import INDEX, context_features
from engine.geo import geofences_at
from engine.inputs import Inputs
from engine.predictor import Predictor
from engine.prior import churn_prior
from engine.schema import N_FEATURES
from engine.score import Score, Weights, score
from engine.segments import Ranked, evaluate_segments, members, order_segments
from engine.stage import stage_of
from engine.sticky import variant_for
from engine.world import World

_RECENCY, _DEPTH = INDEX["recency"], INDEX["depth"]
_GAP, _SESSIONS, _PURCHASES = INDEX["gap_days"], INDEX["n_sessions"], INDEX["n_purchases"]


@dataclass(slots=True)
class Reading:
    """A visitor as one book and model see them: the model row for no offer, the facts, the predictions.

    `rung` is where on the ladder the conversion probability came from, `reason` why not from the model.
    """

    row: NDArray[np.float64]
    facts: dict[str, Any]
    conversion: float | None
    churn: float
    rung: str
    reason: str | None


def read_visitor(inputs: Inputs, world: World, rung: str = "model", why: str | None = None) -> Reading:
    """Predict and collect the facts that the book's conditions read; never raises for a model's sake."""
    features, context = inputs.features, inputs.context
    inside, km = geofences_at(world.book.geofences, context.get("lat"), context.get("lon"))
    row = model_row(features, context, km)
    conversion, rung, why = _conversion(inputs, world, row, rung, why)
    churn = _churn(world.churn, row)
    if churn is None:
        churn = churn_prior(features[_GAP], features[_SESSIONS], features[_PURCHASES])
    facts = world.book.facts.collect(inputs, conversion, churn, inside, km)
    return Reading(row, facts, conversion, churn, rung, why)


def _conversion(
    inputs: Inputs, world: World, row: NDArray[np.float64], rung: str, why: str | None
) -> tuple[float | None, str, str | None]:
    if rung == "model":
        if world.model is None:
            rung, why = "precomputed", "NO_MODEL"
        else:
            try:
                p = float(world.model.predict_one(row))
            except Exception:
                p = math.nan
            if 0.0 <= p <= 1.0:
                return p, rung, why
            rung, why = "precomputed", "MODEL_FAILED"
    if rung == "precomputed":
        if inputs.last_conversion is not None:
            return inputs.last_conversion, rung, why
        rung = "rules"
    return None, rung, why


def _churn(model: Predictor | None, row: NDArray[np.float64]) -> float | None:
    """What the churn model in force says; None where there is none, or it gives no answer."""
    if model is None:
        return None
    try:
        p = float(model.predict_one(row))
    except Exception:
        return None
    return p if 0.0 <= p <= 1.0 else None


def stage_and_score(reading: Reading, inputs: Inputs, campaign: CompiledCampaign) -> Score:
    """The stage by the campaign's limits, and the score by its weights for that stage; put among the facts."""
    stage = stage_of(inputs.features, reading.churn, campaign.lapsing_above)
    weights = campaign.weights[stage]
    found = score(inputs.features[_RECENCY], inputs.features[_DEPTH], reading.conversion or 0.0, weights, stage)
    reading.facts["stage"], reading.facts["score"] = stage, found.value
    return found


def update_segments(
    reading: Reading, campaign: CompiledCampaign, found: Score, memberships: dict[str, list[int]], now_ms: int
) -> tuple[dict[str, list[int]], list[str]]:
    """Memberships after looking again, and the campaign's segments the visitor is in, highest rank first."""
    after, _ = evaluate_segments(campaign.segments, reading.facts, memberships, now_ms)
    inside = members(campaign.segments, after)
    reading.facts["segments"] = inside
    if len(inside) < 2:
        return after, list(inside)
    ranked = [Ranked(s.name, s.priority, found.value) for s in campaign.segments if s.name in inside]
    return after, order_segments(ranked)


def assess_signals(inputs: Inputs, world: World, now_ms: int) -> tuple[dict[str, list[int]], float | None]:
    """After signals: memberships in every campaign of the book, and the conversion probability to keep at hand."""
    reading = read_visitor(inputs, world)
    memberships = known_segments(world.book, inputs.memberships)
    for campaign in world.book.campaigns.values():
        if campaign.segments:
            # By the visitor's own variant, so that signals and decisions do not pull a segment two ways.
            own, _, _ = variant_for(campaign, inputs)
            found = stage_and_score(reading, inputs, own)
            memberships, _ = update_segments(reading, own, found, memberships, now_ms)
    return memberships, reading.conversion


def known_segments(book: CompiledBook, memberships: dict[str, list[int]]) -> dict[str, list[int]]:
    """Memberships without those of segments the book no longer has."""
    return {key: since for key, since in memberships.items() if key in book.segment_keys}


NO_OFFER: Final = (0.0, 0.0, 0.0, 0.0)
"""An offer's part of a row where there is none."""


def model_row(
    features: Sequence[float | None], context: dict[str, Any], km: float,
    offer: tuple[float, float, float, float] = NO_OFFER,
) -> NDArray[np.float64]:  # fmt: skip
    """The model's row, shape (n_features,); the offer as (code, value, cost, times served). None becomes NaN."""
    return np.array([*features, *context_features(context, km), *offer], dtype=np.float64)


def offer_rows(row: NDArray[np.float64], offers: Sequence[tuple[float, float, float, float]]) -> NDArray[np.float64]:
    """Model rows for offers given as (code, value, cost, times served): shape (n, n_features)."""
    rows = np.empty((len(offers), len(row)))
    rows[:] = row
    rows[:, N_FEATURES - 4 :] = offers
    return rows


NO_WEIGHTS: Final = Weights(0.0, 0.0, 0.0)
