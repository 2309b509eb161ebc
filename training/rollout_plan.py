"""How a rollout is to go, agreed on beforehand: its stages and its margins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from engine.errors import InvalidInput

Kind = Literal["model", "book"]
KINDS: Final = ("model", "book")
HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the ramp. `share` is the challenger's share of users; 0 is shadow: it scores and nobody sees it.

    A stage lasts at least `minimum_s` and until `minimum_users` are observed; if it has not earned the next one by
    `horizon_s`, the champion stays.
    """

    share: float
    minimum_s: float
    horizon_s: float
    minimum_users: int = 0

    @property
    def name(self) -> str:
        """`"shadow"` or `"canary"`, as the world pointer says it."""
        return "canary" if self.share else "shadow"

    @property
    def text(self) -> str:
        """As people read it.

        >>> Stage(0.05, 0, 1).text
        'canary 5 %'
        """
        return f"canary {self.share * 100:.4g} %" if self.share else "shadow"


RAMP: Final = (
    Stage(0.0, HOUR_S, 7 * DAY_S, 2000),
    Stage(0.01, HOUR_S, 7 * DAY_S, 1000),
    Stage(0.05, 6 * HOUR_S, 7 * DAY_S, 1000),
    Stage(0.25, DAY_S, 7 * DAY_S, 1000),
    Stage(0.5, DAY_S, 28 * DAY_S, 1000),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was agreed beforehand.

    `margin` m: a challenger at (1 − m) times the champion's conversion (and engagement) is tolerated; `harm_margin`:
    one at (1 + m) times its errors and slow answers. `quality_margin` is a share of the champion's log-loss; `alpha`
    the error of all guards together, and that of a promotion. `faults` is how many scores that are no numbers are
    forgiven.
    """

    stages: tuple[Stage, ...] = RAMP
    alpha: float = 0.05
    margin: float = 0.1
    harm_margin: float = 0.1
    quality_margin: float = 0.01
    faults: int = 2

    def __post_init__(self) -> None:
        shares = [stage.share for stage in self.stages]
        if not shares or not all(0 <= share <= 0.5 for share in shares) or sorted(set(shares)) != shares:
            raise InvalidInput("bad_plan", f"shares grow from stage to stage, at most to 0.5; found {shares}")
        if not shares[-1] > 0:
            raise InvalidInput("bad_plan", "the last stage is a canary, since conversion is measured there")
        if not 0 < self.alpha < 1:
            raise InvalidInput("bad_alpha", f"alpha is {self.alpha:g}, expected a number between 0 and 1")

    @property
    def shadows(self) -> int:
        """How many stages nobody is exposed in."""
        return sum(stage.share == 0 for stage in self.stages)

    def place_of(self, share: float) -> int | None:
        """Which stage has this share."""
        return next((i for i, stage in enumerate(self.stages) if abs(stage.share - share) < 1e-6), None)

    def for_book(self, share: float) -> Plan:
        """The same for a campaign book, from `share` on: no shadow, since it was tried in a dry run instead.

        Raises InvalidInput `bad_canary` unless 0 < share ≤ 0.5.
        """
        if not 0 < share <= 0.5:
            raise InvalidInput("bad_canary", f"canary: found {share:g}, expected a share above 0 and up to 0.5")
        canaries = self.stages[self.shadows :]
        first = next((stage for stage in canaries if stage.share >= share), canaries[-1])
        return replace(self, stages=(replace(first, share=share), *(s for s in canaries if s.share > share)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Plan:
        """What `to_dict` gave."""
        return cls(**{**fields, "stages": tuple(Stage(**stage) for stage in fields["stages"])})


def ramp(
    shares: Sequence[float], minimum_s: Sequence[float], horizon_s: Sequence[float], minimum_users: Sequence[int]
) -> tuple[Stage, ...]:
    """Stages from columns of settings; raises InvalidInput `bad_plan` where their lengths differ."""
    if not len(shares) == len(minimum_s) == len(horizon_s) == len(minimum_users):
        raise InvalidInput("bad_plan", "shares, minimum_s, horizon_s and minimum_users name the same number of stages")
    columns = zip(shares, minimum_s, horizon_s, minimum_users, strict=True)
    return tuple(Stage(*column) for column in columns)
