"""What the trainer needs to know, in one value that travels to its process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from engine.schema import N_FEATURES
from training.due import Cadence

if TYPE_CHECKING:
    from actors.rollout import RolloutSettings

_COPIES: Final = 3
"""A row is held as it is stored, as a table to learn from, and for moments in parts of either."""


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """`window_rows` are kept and learned from, fewer where `memory_bytes` would not hold them."""

    cadence: Cadence = field(default_factory=Cadence)
    window_rows: int = 200_000
    memory_bytes: int = 1_500 * 1024 * 1024
    fewest_rows: int = 500
    churn: bool = True
    seed: int = 0
    params: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    tick_ms: int = 1_000
    read_ms: int = 0
    """How often the journal is read, where nothing waits for it; 0: at every tick."""
    grace_ms: int = 60_000
    """What is waited beyond a conversion's window before nothing having come counts as a negative."""
    stale_ms: int = 120_000
    """After so long without a sign whoever was training is taken for dead."""
    attempts: int = 3
    """A run that has died so often is not begun again."""
    processor_share: float = 1.0
    """Of one processor, what growing trees takes over time."""
    most_retaken: int = 4_000
    """Logged decisions that are taken again to value a candidate's choices."""

    def shared(self) -> dict[str, Any]:
        """What a training elsewhere must do alike, as JSON; `alike` reads it."""
        return {
            "window_rows": self.window_rows, "memory_bytes": self.memory_bytes, "fewest_rows": self.fewest_rows,
            "seed": self.seed, "params": dict(self.params), "grace_ms": self.grace_ms,
        }  # fmt: skip

    @classmethod
    def alike(cls, shared: Mapping[str, Any]) -> TrainerSettings:
        """Settings as another trainer told them; what it did not tell has its default."""
        return cls(**{name: shared[name] for name in cls().shared() if name in shared})

    @property
    def most_rows(self) -> int:
        """The newest rows that a training reads."""
        return max(1_000, min(self.window_rows, self.memory_bytes // (N_FEATURES * 8 * _COPIES)))


@dataclass(frozen=True, slots=True)
class TrainerOptions:
    """Where the trainer finds store and archive, and how it trains. Light: whoever starts one imports only this.

    `alone` is a process of its own, which stands back; the twin in a thread must not, as its process does not.
    """

    redis_url: str
    archive: str | None = None
    settings: TrainerSettings = field(default_factory=TrainerSettings)
    rollouts: RolloutSettings | None = None
    alone: bool = True
