"""At rest rollouts read a sixteenth of the journal; of a rollout they miss nothing, of the erased they keep nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from actors.learning import Learning
from actors.rollout import Rollouts
from actors.rollout_reading import PASS_EVERY_MS, RolloutReading
from engine.ids import partition_of
from tests.actors.test_rollouts_journal import PLAN, visit, watched
from tests.actors.town import Town
from tests.actors.trials import a_town

N = 64
NAMES = [f"anon:r{i}" for i in range(N)]


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    made = await a_town()
    yield made
    await made.stop()


async def following(town: Town) -> tuple[Learning, Rollouts, RolloutReading]:
    reader, rollouts = await watched(town)
    return reader, rollouts, RolloutReading(reader, rollouts, town.n_partitions, town.clock)


def home(town: Town, track: str) -> int:
    return partition_of(track, town.n_partitions)


async def test_at_rest_a_sample_is_read_and_the_traffic_is_that_of_all(town: Town) -> None:
    reader, rollouts, reading = await following(town)
    await reading.read_on()
    for name in NAMES:
        await visit(town, [name])
    await reading.read_on()
    sampled = [name for name in NAMES if home(town, name) in reading.sample]
    assert 0 < len(sampled) < N / 2
    assert {e.track for e in map(reader.window.get, reader.window) if e is not None} == set(sampled)
    per_day = (await rollouts.traffic()).users_per_day
    # One visitor in ten minutes, told from an eighth of the partitions.
    assert per_day == pytest.approx(144, rel=0.6)
    assert per_day > 144 / 2


async def test_every_decision_of_a_rollout_is_read_also_those_of_its_first_moment(town: Town) -> None:
    _reader, rollouts, reading = await following(town)
    await reading.read_on()
    await visit(town, NAMES)
    await reading.read_on()
    assert reading.resting
    await rollouts.submit("model", "m1", "", plan=PLAN)
    arms = await visit(town, NAMES)
    await reading.read_on()
    assert not reading.resting
    town.clock.now_ms += 2000
    await rollouts.look()
    status = await rollouts.status()
    assert status["running"]["evidence"]["users"] == len(arms)


async def test_a_rollout_that_starts_between_two_looks_loses_nothing(town: Town) -> None:
    reader, rollouts, reading = await following(town)
    await reading.read_on()
    town.clock.now_ms += 2 * PASS_EVERY_MS
    ends = reader.ends

    async def ends_then_a_start() -> list[tuple[int, int] | None]:
        found = await ends()
        await rollouts.submit("model", "m1", "", plan=PLAN)
        await visit(town, NAMES)
        return found

    reader.ends = ends_then_a_start  # type: ignore[method-assign]
    await reading.read_on()
    town.clock.now_ms += 2000
    await rollouts.look()
    assert (await rollouts.status())["running"]["evidence"]["users"] == N


async def test_what_was_read_of_a_rollout_that_is_over_is_not_kept(town: Town) -> None:
    reader, rollouts, reading = await following(town)
    rollout = await rollouts.submit("model", "m1", "", plan=PLAN)
    await visit(town, NAMES)
    await reading.read_on()
    assert len(reader.window) == N
    await rollouts.roll_back(rollout.id, "somebody")
    await reading.read_on()
    assert len(reader.window) == 0
    # Nor by who goes on from the saves.
    again, _ = await watched(town)
    assert len(again.window) == 0
