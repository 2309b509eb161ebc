"""Paths into a campaign, as experiments write them: `segments.high_intent.all[0].above`; read and overridden."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final

from engine.findings import Findings, Loc, nearest, one_of, path_text

_STEP = re.compile(r"(?:^|\.)([A-Za-z_][\w-]*)|\[(\d{1,4})\]|\[\"([^\"]+)\"\]")
FIXED: Final = frozenset({"enabled", "stage", "priority", "placements", "conversion", "holdout", "experiments"})
"""Parts a variant may not change: they decide who is in the experiment, or what its success is."""
_NAMED: Final = frozenset({"segments", "offers"})
"""Mappings whose keys are the author's: nothing new can be brought in by a path."""


def parse_path(text: str) -> Loc | None:
    """The steps of a path, None where it is not one.

    >>> parse_path("segments.high_intent.all[0].above"), parse_path('offers.x.when["trait.plan"]'), parse_path("a..b")
    (('segments', 'high_intent', 'all', 0, 'above'), ('offers', 'x', 'when', 'trait.plan'), None)
    """
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            return None
        steps.append(int(match[2]) if match[2] else match[1] or match[3])
        at = match.end()
    return tuple(steps) if steps and isinstance(steps[0], str) else None


def override(campaign: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A campaign's raw form with every change made; the paths must have been checked."""
    changed = copy.deepcopy({key: value for key, value in campaign.items() if key != "experiments"})
    for text, value in changes.items():
        steps = parse_path(text)
        if steps is None:
            raise ValueError(f"not a path: {text}")
        at: Any = changed
        for step in steps[:-1]:
            if isinstance(step, str) and at.get(step) is None:
                at[step] = {}
            at = at[step]
        at[steps[-1]] = copy.deepcopy(value)
    return changed


def check_path(campaign: Mapping[str, Any], text: str, loc: Loc, findings: Findings) -> bool:
    """Whether a variant may change this; otherwise a finding says where the path breaks off.

    A setting that has a default need not be spelt out in the campaign to be changed; whether such a key is known
    is found when the changed campaign is read.
    """
    steps = parse_path(text)
    if steps is None:
        expected = "a path into the campaign such as segments.NAME.all[0].above"
        findings.add(loc, "unknown_path", expected, found=text)
        return False
    if steps[0] in FIXED:
        findings.add(loc, "fixed_path", f"a path to something else: no variant may change {steps[0]}", found=text)
        return False
    at: Any = campaign
    for n, step in enumerate(steps):
        if isinstance(at, Mapping) and step in at and (at[step] is not None or n == len(steps) - 1):
            at = at[step]
            continue
        if isinstance(at, list) and isinstance(step, int) and step < len(at):
            at = at[step]
            continue
        named = n > 0 and steps[n - 1] in _NAMED
        if isinstance(at, Mapping) and isinstance(step, str) and not named:
            return True
        expected, near = _breaks_off(at, steps[:n], step)
        findings.add(loc, "unknown_path", expected, found=text, near=near)
        return False
    return True


def _breaks_off(at: Any, before: Loc, step: str | int) -> tuple[str, str | None]:
    where = path_text(before) or "the campaign"
    if isinstance(at, Mapping):
        return f"{one_of(at) if at else 'something that exists'} in {where}", nearest(step, [str(key) for key in at])
    if isinstance(at, list):
        return f"a position from 0 to {len(at) - 1} in {where}" if at else f"{where} to have something in it", None
    return f"a path that ends at {where}", None
