"""Who answers when the simulated shop asks what to show: nobody, an oracle, or an engine."""

from __future__ import annotations

from typing import Protocol

from engine.simulation import Ask, Send, Shown, Truth
from training.recovery.kiosk import Kiosk

MOBILE = ("ios", "android")


class Arm(Protocol):
    """One way of answering. `sees` every event, `answers` every question, and may `learn` when a day is over."""

    def sees(self, step: Send) -> None: ...

    def answers(self, step: Ask) -> Shown | None: ...

    def learn(self, day: int, now_ms: int) -> None: ...


class NoOffers:
    """The holdout: nobody is shown anything."""

    def sees(self, step: Send) -> None:
        """Nothing is kept."""

    def answers(self, step: Ask) -> Shown | None:  # noqa: ARG002 - whoever asks
        """Nothing, to anybody."""
        return None

    def learn(self, day: int, now_ms: int) -> None:
        """There is nothing to learn from."""


class Oracle(NoOffers):
    """Knows every shopper's true probabilities, and shows what raises that of a purchase most, or nothing.

    It waits for the last moment: the purchase is made up there, and what was shown before only limits it. It is bound
    by no cap, segment or cost: no engine can recover more carts with these offers.
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

    def learn(self, day: int, now_ms: int) -> None:
        """Train on what has matured, and put the new model in force."""
        if self._school is not None:
            self._school.end_day(self.kiosk, day, now_ms)


class School(Protocol):
    """Turns what was decided and what came of it into the next model."""

    def end_day(self, kiosk: Kiosk, day: int, now_ms: int) -> None: ...


def addressed(step: Ask) -> bool:
    """Whether the campaign may speak to this visitor: on a phone, consenting, and human."""
    return step.state.os in MOBILE and step.shopper.consents and not step.shopper.bot
