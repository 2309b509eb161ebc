"""How rollouts read the journal: everything while a candidate is under way, else a sixteenth, to know the traffic.

Following every decision costs nearly as much CPU as taking it does (`ONLY=decide make bench` shows it by process), and
where there is no candidate there is nothing to judge. What was decided before a rollout is no evidence in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from actors.learning import Learning
from actors.rollout import Rollouts
from engine.ids import partition_of

SAMPLED: Final = 16
"""One partition of so many is read at rest. A partition is a hash of the visitor: its visitors are a fair sample."""
PASS_EVERY_MS: Final = 5_000
"""How often the others are passed over; what came since is read when a rollout starts."""


class RolloutReading:
    """Verb: read_on."""

    def __init__(self, learning: Learning, rollouts: Rollouts, n_partitions: int, clock: Callable[[], int]) -> None:
        self._learning, self._rollouts, self._clock = learning, rollouts, clock
        self.sample = frozenset(range(0, n_partitions, SAMPLED))
        self.resting = False
        self._passed_ms = 0
        rollouts.sample(lambda track: partition_of(track, n_partitions) in self.sample, len(self.sample) / n_partitions)

    async def read_on(self) -> None:
        """Read what is new and wanted.

        Raises:
            engine.errors.Unavailable: the store does not answer.
        """
        learning, rollouts = self._learning, self._rollouts
        if not self.resting and await rollouts.has_candidate():
            await learning.advance()
            return
        now_ms, ends = self._clock(), None
        if not self.resting or not 0 <= now_ms - self._passed_ms < PASS_EVERY_MS:
            # Before the board is looked at: a decision of a rollout that is not there yet lies after these ends.
            ends = await learning.ends()
        if await rollouts.has_candidate():
            self.resting = False
            await learning.advance()
            return
        if ends is not None:
            await learning.pass_over(ends, self.sample, anew=not self.resting)
            self.resting, self._passed_ms = True, now_ms
        await learning.advance(self.sample)
