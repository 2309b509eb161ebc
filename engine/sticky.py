"""Sticky assignments: the same visitor gets the same variant, from a hash, and from what was assigned before."""

from __future__ import annotations

from hashlib import blake2b

from engine.compiled import CompiledCampaign, CompiledExperiment
from engine.inputs import Inputs


def bucket(key: str, root: str) -> float:
    """A sticky place in [0, 1) for a visitor in one holdout or experiment, independent between them."""
    digest = blake2b(f"{key}\x00{root}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def holdout_key(campaign: str) -> str:
    """Under which name it is assigned whether a visitor is in a campaign's holdout."""
    return f"holdout.{campaign}"


def variant_for(
    campaign: CompiledCampaign, inputs: Inputs
) -> tuple[CompiledCampaign, CompiledExperiment | None, str | None]:
    """The campaign as this visitor gets it, with the experiment and its variant, if any."""
    for experiment in campaign.experiments:
        known = inputs.assignments.get(experiment.key)
        if known is not None and known[0] in experiment.variants:
            return experiment.variants[known[0]], experiment, known[0]
    found = campaign.variant(lambda salt: bucket(salt, inputs.root))
    rivals = found[1].place.rivals if found[1] is not None else ()
    # Who was in another experiment of the layer before the book changed stays out of this one.
    return (campaign, None, None) if any(key in inputs.assignments for key in rivals) else found
