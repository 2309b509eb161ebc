"""The world a decision is made in: frozen, versioned, swapped as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from engine.catalogue import Catalogue
from engine.compiled import CompiledBook
from engine.posteriors import Posteriors
from engine.predictor import Predictor

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
SHADOW: Final = "shadow"
CANARY: Final = "canary"


@dataclass(frozen=True, slots=True)
class Trial:
    """A rollout under way: a model or a book tried beside the one in force.

    In stage `shadow` it is only asked; in `canary` it decides for the visitors whose bucket is below `share`.
    """

    id: str
    kind: str
    stage: str
    share: float
    challenger: Predictor | CompiledBook
    key: str = field(init=False)
    """The name of the sticky assignment that holds a visitor's bucket."""
    label: str = field(init=False)
    """The stage as decisions record it: `shadow`, or `canary-0.05`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"rollout.{self.id}")
        object.__setattr__(self, "label", SHADOW if self.stage == SHADOW else f"{self.stage}-{self.share:g}")

    @property
    def version(self) -> str:
        """The version on trial."""
        return self.challenger.version


@dataclass(frozen=True, slots=True)
class World:
    """The campaign book in force and the model that answers; `model` None is a world without predictions.

    `churn` None is the prior's estimate of churn. `side` is the world as the challenger's arm sees it, None where no
    rollout is under way.
    """

    book: CompiledBook
    model: Predictor | None
    arm: str = CHAMPION
    churn: Predictor | None = None
    rollout: Trial | None = None
    posteriors: Posteriors | None = None
    """What outcomes have taught of each offer in each segment."""
    catalogue: Catalogue | None = None
    """The shop's products; decisions read those that concern them from their inputs."""
    side: World | None = field(init=False, default=None)
    goal: tuple[str, str, int] | None = field(init=False, default=None)
    """What a visit without a decision is to lead to: the conversion of the first campaign, and within how many ms."""

    def __post_init__(self) -> None:
        first = min(self.book.campaigns.values(), key=lambda c: (-c.priority, c.name), default=None)
        if first is not None:
            goal = (first.name, first.conversion_kind, first.conversion_within_ms)
            object.__setattr__(self, "goal", goal)
        trial = self.rollout
        if trial is None:
            return
        if isinstance(trial.challenger, CompiledBook):
            side = World(trial.challenger, self.model, CHALLENGER, self.churn, None, self.posteriors, self.catalogue)
        else:
            side = World(self.book, trial.challenger, CHALLENGER, self.churn, None, self.posteriors, self.catalogue)
        object.__setattr__(self, "side", side)

    @property
    def model_version(self) -> str:
        """The version every decision names."""
        return self.model.version if self.model is not None else "none"

    @property
    def churn_version(self) -> str:
        """The version of the churn model; empty for the prior's estimate."""
        return self.churn.version if self.churn is not None else ""

    @property
    def posteriors_version(self) -> str:
        """The version of the posteriors; empty where there are none."""
        return self.posteriors.version if self.posteriors is not None else ""

    def without_rollout(self) -> World:
        """The world in force, as if nothing were on trial."""
        return self if self.rollout is None else replace(self, rollout=None)
