"""Layers: experiments of several campaigns that share one never have a visitor in two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.book_model import BookModel
from engine.findings import Findings, Loc


class Place(NamedTuple):
    """The part of a layer's visitors that is an experiment's, and the keys of the others in that layer."""

    salt: str
    low: float
    high: float
    rivals: frozenset[str]


def places_in_layers(book: BookModel) -> dict[str, Place]:
    """The place of every experiment, by `campaign.experiment`.

    Experiments stand in their layer in the order of the book; those without a share have equal parts of what is left.
    """
    layers: dict[str, list[tuple[str, float | None]]] = {}
    for campaign, spec in book.campaigns.items():
        for name, experiment in spec.experiments.items():
            # A campaign's own layer is named like the campaign, which no layer across campaigns can be.
            salt = f"layer.{campaign}" if experiment.layer is None else f"layer..{experiment.layer}"
            layers.setdefault(salt, []).append((f"{campaign}.{name}", experiment.share))
    places: dict[str, Place] = {}
    for salt, experiments in layers.items():
        given = [share for _, share in experiments if share is not None]
        open_share = (1.0 - sum(given)) / max(1, len(experiments) - len(given))
        low = 0.0
        for key, share in experiments:
            high = low + (open_share if share is None else share)
            others = frozenset(other for other, _ in experiments if other != key)
            places[key] = Place(salt, low, high, others)
            low = high
    return places


def check_layers(data: Mapping[str, Any], findings: Findings) -> None:
    """Add findings: shares of a layer beyond all visitors, and a campaign with experiments in several layers."""
    shares: dict[str, list[tuple[float, Loc]]] = {}
    campaigns = data.get("campaigns")
    for name, campaign in campaigns.items() if isinstance(campaigns, Mapping) else ():
        experiments = campaign.get("experiments") if isinstance(campaign, Mapping) else None
        layers: set[str | None] = set()
        for key, raw in experiments.items() if isinstance(experiments, Mapping) else ():
            layer, share = (raw.get("layer"), raw.get("share")) if isinstance(raw, Mapping) else (None, None)
            if layer is not None and not isinstance(layer, str):
                continue
            loc: Loc = ("campaigns", name, "experiments", key)
            layers.add(layer)
            if layer is not None and isinstance(share, int | float) and not isinstance(share, bool):
                shares.setdefault(layer, []).append((float(share), (*loc, "share")))
        if len(layers) > 1:
            expected = "one layer for all experiments of a campaign: a visitor is in at most one of them"
            findings.add(("campaigns", name, "experiments"), "several_layers", expected, found=len(layers))
    for layer, given in shares.items():
        total = sum(share for share, _ in given)
        if total > 1.0 + 1e-9:
            expected = f"shares of layer {layer} that add up to at most 1 over all campaigns"
            findings.add(given[-1][1], "shares_exceed", expected, found=round(total, 6))
