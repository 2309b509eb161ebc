"""Everything `decide` reads about a visitor and a request, in the form in which it is recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Final

from engine.features import cart_of, current_session, profile_features, worth_of
from engine.offer_times import MAX_TIMES
from engine.supply import Supply
from engine.track import Track, product_key

MAX_COHORTS: Final = 32
FEATURES, CONTEXT, PERSONALISE, TRAIN, IS_BOT, CART, SERVED = 1, 2, 3, 4, 5, 8, 10
RECORDABLE, SUPPLY, N_SERVED = 14, 16, 18
"""Where they stand in `Inputs.to_list()`; records of earlier engines end before the supply, most before the last."""


@dataclass(slots=True)
class Request:
    """What a decide call asks for, validated: placement, wishes and Tier 1's own suggestions."""

    placement: str
    campaign: str | None = None
    base: list[dict[str, Any]] = field(default_factory=list)
    limit: int = 1
    page_view: str | None = None
    source: str | None = None
    """Where the suggestions came from if not from the request: `fetched`, `cached`, …, or why there are none."""


@dataclass(slots=True)
class Inputs:
    """The visitor and the request as read at decision time; `to_list` is the journal's form.

    `features` follow `PROFILE_FEATURES`; `memberships`, `served` and `assignments` are keyed
    `campaign.segment`, `campaign.offer` and `holdout.campaign` or `campaign.experiment`.
    """

    root: str
    features: list[float]
    context: dict[str, Any]
    personalise: bool
    train: bool
    bot: bool
    cohorts: list[str]
    traits: dict[str, Any]
    cart: list[float]
    memberships: dict[str, list[int]]
    served: dict[str, list[int]]
    assignments: dict[str, list[Any]]
    shown: list[str]
    request: Request
    recordable: bool = True
    last_conversion: float | None = None
    supply: Supply | None = None
    interest: dict[str, int] | None = None
    """What the visitor has shown in Tier 1's suggestions: 2 in the cart, 1 viewed in this visit."""
    n_served: dict[str, int] | None = None
    """How often offers were served of which `served` names only the newest times."""

    def times_served(self, offer: str) -> int:
        """How often an offer was served to this visitor, as far as is remembered, by its key."""
        return times_served(self.served, self.n_served, offer)

    def to_list(self) -> list[Any]:
        """A list of plain values; NaN becomes null when written as JSON."""
        r = self.request
        return [
            self.root, self.features, self.context, self.personalise, self.train, self.bot, self.cohorts,
            self.traits, self.cart, self.memberships, self.served, self.assignments, self.shown,
            [r.placement, r.campaign, r.base, r.limit, r.page_view, *(() if r.source is None else (r.source,))],
            self.recordable, self.last_conversion, None if self.supply is None else self.supply.to_list(),
            *(() if self.interest is None and not self.n_served else (self.interest,)),
            *((self.n_served,) if self.n_served else ()),
        ]  # fmt: skip

    @classmethod
    def from_list(cls, row: list[Any]) -> Inputs:
        """Read `to_list` back, null in the features as NaN."""
        inputs = cls(*row)
        inputs.request = Request(*row[13])
        inputs.supply = Supply.from_list(row[SUPPLY]) if len(row) > SUPPLY else None
        inputs.features = [math.nan if x is None else x for x in row[1]]
        return inputs


def read_inputs(
    track: Track,
    request: Request,
    context: dict[str, Any],
    consent: dict[str, bool],
    now_ms: int,
    last_conversion: float | None = None,
    n_times: int = MAX_TIMES,
) -> Inputs:
    """Read a profile's view for one request; nothing read is shared with the profile afterwards.

    `n_times` is of how many servings of an offer the times are read.
    """
    shown: list[str] = []
    if request.page_view is not None:
        shown = track.decisions.shown_on(request.page_view)
        if shown and request.base:
            request = replace(request, base=[b for b in request.base if b["id"] not in shown])
    traits = {name: stamp[0] for name, stamp in track.traits.items()}
    cart = cart_of(track)
    n_items, cart_value = worth_of(cart[0])
    return Inputs(
        root=track.id,
        features=profile_features(track, now_ms, cart),
        context=context,
        personalise=consent.get("personalisation", True),
        # What came of it would not be known: nothing is kept of what a visitor without analytics does.
        train=consent.get("training", True) and consent.get("analytics", True),
        bot=track.is_bot or bool(context.get("bot")),
        cohorts=cohorts_of(track),
        traits=traits,
        cart=[n_items, cart_value],
        memberships={name: list(since) for name, since in track.memberships.items()},
        served={offer: list(times[-n_times:]) for offer, times in track.served.items()},
        assignments={name: list(assigned) for name, assigned in track.assignments.items()},
        shown=shown,
        request=request,
        last_conversion=last_conversion,
        interest=_interest(track, request.base, cart[0], now_ms) if request.base else None,
        n_served={offer: len(times) for offer, times in track.served.items() if len(times) > n_times} or None,
    )


def times_served(served: Mapping[str, Sized], n_served: Mapping[str, int] | None, offer: str) -> int:
    """`Inputs.times_served` of inputs as they are recorded."""
    return n_served[offer] if n_served and offer in n_served else len(served.get(offer, ()))


def _interest(
    track: Track, base: list[dict[str, Any]], cart: dict[str, list[float]], now_ms: int
) -> dict[str, int] | None:
    session = current_session(track, now_ms)
    viewed = session.products if session is not None else ()
    found: dict[str, int] = {}
    for suggestion in base:
        item = suggestion["id"]
        if item in cart:
            found[item] = 2
        elif viewed and product_key(item) in viewed:
            found[item] = 1
    return found or None


def cohorts_of(track: Track) -> list[str]:
    """Cohort labels: the groups joined, and the traits `cohort` and `cohorts`."""
    if not track.groups and not track.traits:
        return []
    labels = set(track.groups)
    for name in ("cohort", "cohorts"):
        value = track.traits.get(name, [None])[0]
        if isinstance(value, str):
            labels.update(part.strip() for part in value.split(",") if part.strip())
    return sorted(labels)[:MAX_COHORTS]
