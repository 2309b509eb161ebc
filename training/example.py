"""An example: what was known of a visitor when a decision was taken, as served, and what came of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Trial = tuple[str, str, str, float | None, float | None]
"""(rollout, `shadow` or `canary-0.05`, arm, p by the champion, p by the challenger) of the row; None: no answer."""


class Example(NamedTuple):
    """The unit of learning: an upsert by (key, revision), of which the highest revision stands.

    It is told first when the decision is read, then again with what bears on it: an order, a refund, an engagement, a
    reward, and that its time is over. Only a matured one has a label to train on; an unmatured label of 0 means
    "not yet". A withdrawn one counts for nothing any more: superseded, a bot's, without consent or erased.

    A tuple, so that many of them turn into columns and columns into many of them without Python going through each.
    """

    key: str
    """The decision's id, or `v:<partition>_<epoch>_<seq>_<i>` for a visit without a decision."""
    revision: int
    """How many facts bear on it, the decision itself being the first: the same whatever order they were read in."""
    track: str
    """The root of the profile when the decision was taken."""
    t_ms: int
    campaign: str
    offer: str | None
    """The first offer shown; None for none."""
    propensity: float
    row: NDArray[np.float64]
    """The model's row as served, shape (n_features,), in the order of `engine.schema.MODEL_FEATURES`. Read only."""
    label: int
    """1 if a conversion within the campaign's window stands."""
    value: float
    """What the conversion is worth by the book, in the book's currency; less what was refunded; 0 without one."""
    engaged: bool
    """An offer was viewed, clicked or redeemed, or a reward of another type than conversion was given."""
    model: str
    """The version that decided; empty for a visit without a decision."""
    arm: str
    trial: Trial | None
    matured: bool
    degraded: bool
    """Answered from a lower rung than the model."""
    took_us: int
    """How long `decide` took, in µs; 0 where it is not known."""
    book: str = ""
    """The version of the campaign book that decided."""
    holdout: bool = False
    """The visitor is in the campaign's holdout."""
    withdrawn: bool = False
    segment: str = ""
    """The highest ranked segment of the campaign that the visitor was in; empty for none."""

    def content(self) -> tuple[Any, ...]:
        """Everything but the row, for comparing."""
        return (*self[:_ROW], *self[_ROW + 1 :])

    def __eq__(self, other: object) -> bool:
        """Equal in everything, the row bit for bit."""
        if not isinstance(other, Example):
            return NotImplemented
        return self.content() == other.content() and self.row.tobytes() == other.row.tobytes()

    def __ne__(self, other: object) -> bool:
        """A tuple's own would compare rows as tuples do."""
        return not self == other

    def __hash__(self) -> int:
        return hash((self.key, self.revision))


_ROW = Example._fields.index("row")


class Amendment(NamedTuple):
    """What has become of an example that is kept: all that facts can change of it. The highest revision stands."""

    key: str
    revision: int
    label: int
    value: float
    engaged: bool
    matured: bool
    withdrawn: bool = False
