"""Experiments checked: paths that exist, variants that are valid campaigns, shares that fit into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.book_checks import check_campaign
from engine.book_paths import check_path, override, parse_path
from engine.book_types import read_model
from engine.findings import Finding, Findings, Loc, path_text


def check_experiments(data: Mapping[str, Any], findings: Findings) -> None:
    """Add findings for the experiments of every campaign."""
    campaigns = data.get("campaigns")
    for name, campaign in campaigns.items() if isinstance(campaigns, Mapping) else ():
        experiments = campaign.get("experiments") if isinstance(campaign, Mapping) else None
        if isinstance(experiments, Mapping):
            _check_shares(experiments, ("campaigns", name, "experiments"), findings)
            for experiment, raw in experiments.items():
                loc: Loc = ("campaigns", name, "experiments", experiment, "variants")
                variants = raw.get("variants") if isinstance(raw, Mapping) else None
                if isinstance(variants, Mapping):
                    _check_variants(data, name, variants, loc, findings)


def _check_shares(experiments: Mapping[str, Any], loc: Loc, findings: Findings) -> None:
    shares = [raw.get("share") for raw in experiments.values() if isinstance(raw, Mapping)]
    given = [s for s in shares if isinstance(s, int | float) and not isinstance(s, bool)]
    if sum(given) > 1.0 + 1e-9:
        expected = "shares that add up to at most 1: a visitor is in at most one experiment of a campaign"
        findings.add(loc, "shares_exceed", expected, found=round(sum(given), 6))
    elif len(given) < len(shares) and sum(given) > 1.0 - 1e-9:
        findings.add(loc, "shares_exceed", "something left for the experiment without a share", found=1)


def _check_variants(
    data: Mapping[str, Any], campaign: str, variants: Mapping[str, Any], loc: Loc, findings: Findings
) -> None:
    if len(variants) < 2:
        findings.add(loc, "one_variant", "at least two variants, one of them usually control: {}", found=len(variants))
    raw = data["campaigns"][campaign]
    sound = not any(f.loc[:2] == ("campaigns", campaign) and "experiments" not in f.loc for f in findings.errors)
    for variant, changes in variants.items():
        if not isinstance(changes, Mapping):
            continue
        paths = [check_path(raw, path, (*loc, variant, path), findings) for path in changes]
        # What is wrong in the campaign itself has been told; a variant of it would only repeat that.
        if sound and changes and all(paths):
            _check_changed(data, campaign, changes, (*loc, variant), findings)


def _check_changed(
    data: Mapping[str, Any], campaign: str, changes: Mapping[str, Any], loc: Loc, findings: Findings
) -> None:
    """Read the changed campaign as a book of its own and tell its findings at the change that caused them."""
    changed = override(data["campaigns"][campaign], changes)
    inner = Findings()
    geofences = data.get("geofences")
    fences = geofences if isinstance(geofences, Mapping) else {}
    read_model({"geofences": fences, "campaigns": {campaign: changed}}, inner)
    check_campaign(changed, ("campaigns", campaign), fences, inner)
    for finding in inner.errors:
        if finding.loc[:2] != ("campaigns", campaign):
            continue
        cause = max(changes, key=lambda path: _shared(parse_path(path) or (), finding.loc[2:]))
        at = (*loc, cause)
        inside = path_text(finding.loc[2:])
        code = "unknown_path" if finding.code == "unknown_key" else finding.code
        message = finding.message if inside == cause else f"{inside}: {finding.message}"
        parts = (finding.found, finding.expected, finding.nearest)
        findings.errors.append(Finding(path_text(at), code, message, *parts, at))


def _shared(change: Loc, place: Loc) -> int:
    """How many steps from the root two places have in common: the change nearest to a finding caused it."""
    pairs = zip(change, place, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(change), len(place)))
