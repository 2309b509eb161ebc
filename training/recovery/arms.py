"""Who answers when the simulated shop asks what to show: nobody, an oracle, or an engine."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.compiled import CompiledCampaign
from engine.prior import PriorModel
from engine.schema import MODEL_FEATURES
from engine.simulation import Ask, Send, Shown, Truth
from training.recovery.kiosk import Kiosk

MOBILE = ("ios", "android")


class Arm(Protocol):
    """One way of answering. `sees` every event, `answers` every question, and may `learn` when an hour is over."""

    def sees(self, step: Send) -> None: ...

    def answers(self, step: Ask) -> Shown | None: ...

    def learn(self, hour: int, now_ms: int) -> None: ...


class NoOffers:
    """The holdout: nobody is shown anything."""

    def sees(self, step: Send) -> None:
        """Nothing is kept."""

    def answers(self, step: Ask) -> Shown | None:  # noqa: ARG002 - whoever asks
        """Nothing, to anybody."""
        return None

    def learn(self, hour: int, now_ms: int) -> None:
        """There is nothing to learn from."""


class Unbound(NoOffers):
    """Knows every shopper's true probabilities, and shows what raises that of a purchase most, or nothing.

    It waits for the last moment: the purchase is made up there, and what was shown before only limits it. It is bound
    by no cap, segment or cost: nobody can recover more carts with these offers.
    """

    def __init__(self, truth: Truth, offers: tuple[str, ...]) -> None:
        self._truth, self._offers = truth, offers

    def answers(self, step: Ask) -> Shown | None:
        """The best by the truth."""
        if step.request["placement"] != "cart_page" or not addressed(step):
            return None
        gains = {offer: self._truth.uplift(step.shopper, step.state, offer) for offer in self._offers}
        best = max(gains, key=lambda offer: gains[offer])
        return Shown(best) if gains[best] > 0 else None


class Engine(NoOffers):
    """Kairos itself, or one that follows fixed rules, by the book and model in force; learns what `school` teaches."""

    def __init__(self, kiosk: Kiosk, school: School | None = None) -> None:
        self.kiosk, self._school = kiosk, school
        self.held_out: dict[int, bool] = {}

    def sees(self, step: Send) -> None:
        """Observed."""
        self.kiosk.observe(step.event, step.t_ms)

    def answers(self, step: Ask) -> Shown | None:
        """Decided, and the first offer shown."""
        key, decision = self.kiosk.decide(step.request, step.t_ms)
        self.held_out.setdefault(step.shopper.index, decision.holdout)
        offer = next((item.id for item in decision.items if item.kind == "offer"), None)
        return None if offer is None else Shown(offer, key)

    def learn(self, hour: int, now_ms: int) -> None:
        """Have the school put in force what it has learned."""
        if self._school is not None:
            self._school.end_hour(self.kiosk, hour, now_ms)


class TrueModel(PriorModel):
    """The truth in a model's place: what a shopper who is asked about will do with each offer; the prior until then."""

    version = "truth"

    def __init__(self, truth: Truth, campaign: CompiledCampaign) -> None:
        super().__init__()
        self._truth = truth
        self._offers = {float(offer.code): offer.name for offer in campaign.offers}
        self._code = MODEL_FEATURES.index("offer_code")
        self.asked: Ask | None = None

    def predict_one(self, row: Any) -> float:
        """The true probability of a purchase."""
        if self.asked is None:
            return super().predict_one(row)
        return self._truth.p_purchase(self.asked.shopper, self.asked.state, self._offers.get(float(row[self._code])))

    def predict_many(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same for rows of shape (n, n_features)."""
        return np.array([self.predict_one(row) for row in rows], dtype=np.float64)


class Oracle(Engine):
    """Kairos under the same campaign (its segments, caps and cool-downs), with the truth as its model.

    Of what the book lets a visitor be shown it shows what raises the probability of a purchase most, whatever it costs:
    no decision within the campaign recovers more carts.
    """

    def __init__(self, kiosk: Kiosk, model: TrueModel) -> None:
        super().__init__(kiosk)
        self._model = model

    def answers(self, step: Ask) -> Shown | None:
        """The best of what may be shown, by the truth."""
        self._model.asked = step
        try:
            return super().answers(step)
        finally:
            self._model.asked = None


class School(Protocol):
    """Turns what was decided and what came of it into the next model."""

    def end_hour(self, kiosk: Kiosk, hour: int, now_ms: int) -> None: ...


def addressed(step: Ask) -> bool:
    """Whether the campaign may speak to this visitor: on a phone, consenting, and human."""
    return step.state.os in MOBILE and step.shopper.consents and not step.shopper.bot
