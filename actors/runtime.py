"""Where shards run: Ray actors, or threads of this process as their twin. The one file of `actors` that knows Ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.hosting import HostOptions, ShardHost, spare_the_collector
from actors.stores import Stores
from actors.trainer_settings import TrainerOptions
from actors.valkey import valkey_stores
from engine.errors import KairosError, Unavailable

if TYPE_CHECKING:
    from actors.rollout_host import RolloutHost, RolloutOptions
    from actors.trainer_host import TrainerHost

log = logging.getLogger("kairos.runtime")

NAMESPACE: Final = "kairos"
PLACES: Final = "kairos-shards"
# Next to nothing, so that a shard never waits for room: what it needs is measured, not reserved.
SHARD_CPU: Final = 0.001
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 15.0
TRY_AGAIN_S: Final = 0.5
LOOK_WITHIN_S: Final = 4.0
SILENT_LOOKS: Final = 3


class Runtime(Protocol):
    """Creates, places and names shards, and says where they are. Failures are for the runtime to mend by restarts."""

    async def start_shards(self, options: list[HostOptions]) -> list[str]:
        """Start the shards side by side; returns their addresses, in order."""
        ...

    async def start_trainer(self, options: TrainerOptions) -> None:
        """Start the trainer; it is not waited for."""
        ...

    async def start_rollouts(self, options: RolloutOptions) -> None:
        """Start whoever looks at rollouts; it is not waited for."""
        ...

    async def describe(self) -> list[dict[str, Any]]:
        """What each shard that answers tells of itself."""
        ...

    async def mend(self) -> list[int]:
        """Start anew the shards that live and have not answered for a while; returns which."""
        ...

    async def stop(self) -> None:
        """Stop every shard, each saving what is dirty."""
        ...


class LocalRuntime:
    """Shards as threads of this process: the same code and the same streams, without Ray."""

    def __init__(self, open_stores: Callable[[str], Stores] = valkey_stores) -> None:
        self._open_stores = open_stores
        self.hosts: list[ShardHost] = []
        self.trainer: TrainerHost | None = None
        self.rollouts: RolloutHost | None = None

    async def start_shards(self, options: list[HostOptions]) -> list[str]:
        self.hosts = [ShardHost(one, self._open_stores) for one in options]
        return list(await asyncio.gather(*(asyncio.to_thread(host.start) for host in self.hosts)))

    async def start_trainer(self, options: TrainerOptions) -> None:
        from actors.trainer_host import TrainerHost

        self.trainer = TrainerHost(replace(options, alone=False), self._open_stores)
        await asyncio.to_thread(self.trainer.start)

    async def start_rollouts(self, options: RolloutOptions) -> None:
        from actors.rollout_host import RolloutHost

        self.rollouts = RolloutHost(replace(options, alone=False), self._open_stores)
        await asyncio.to_thread(self.rollouts.start)

    async def describe(self) -> list[dict[str, Any]]:
        return [host.describe() for host in self.hosts]

    async def mend(self) -> list[int]:
        # A thread cannot be ended from outside.
        return []

    async def stop(self) -> None:
        for beside in (self.rollouts, self.trainer):
            if beside is not None:
                await asyncio.to_thread(beside.stop)
        await asyncio.gather(*(asyncio.to_thread(host.stop) for host in self.hosts))
        self.hosts, self.trainer, self.rollouts = [], None, None


class ShardActor:
    """A shard as a Ray actor. Ray runs the constructor again after a death, and with it the recovery."""

    def __init__(self, options: HostOptions) -> None:
        spare_the_collector()
        # A Ray actor knows its node only at run time.
        host = options.listen_host or str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        placed = replace(options, listen_host=host)
        while True:
            self._host = ShardHost(placed)
            try:
                self._address = self._host.start()
            except KairosError as failure:
                # Ray never restarts an actor whose constructor has raised; the store comes back some time.
                log.warning("shard %d cannot start yet: %s", options.index, failure.message)
                self._host.abandon()
                time.sleep(TRY_AGAIN_S)
            else:
                break

    def address(self) -> str:
        """Where it listens."""
        return self._address

    def describe(self) -> dict[str, Any]:
        """Its own account of itself."""
        return self._host.describe()

    def stop(self) -> None:
        """Save and stop listening; the process stays until it is killed."""
        self._host.stop()


class TrainerActor:
    """The trainer as a Ray actor. After a death Ray runs the constructor again, and what was under way is taken up."""

    def __init__(self, options: TrainerOptions) -> None:
        # What learning imports would cost every shard memory, and the start its time.
        from actors.trainer_host import TrainerHost

        spare_the_collector()
        self._host = TrainerHost(options)
        self._host.start()

    def describe(self) -> dict[str, Any]:
        """Its own account of itself."""
        return self._host.describe()

    def stop(self) -> None:
        """End what is under way, keep what was read; the process stays until it is killed."""
        self._host.stop()


class RolloutActor:
    """Whoever looks at rollouts as a Ray actor. After a death Ray runs the constructor again, and they go on."""

    def __init__(self, options: RolloutOptions) -> None:
        # What the statistics need is no load for a shard's process, which imports this file too.
        from actors.rollout_host import RolloutHost

        self._host = RolloutHost(options)
        self._host.start()

    def describe(self) -> dict[str, Any]:
        """Its own account of itself."""
        return self._host.describe()

    def stop(self) -> None:
        """Keep what was read; the process stays until it is killed."""
        self._host.stop()


class RayRuntime:
    """Shards as named, detached Ray actors that restart for ever, spread over the nodes.

    An empty `listen_host` in the options means the address of whatever node the shard is placed on.
    """

    def __init__(self) -> None:
        self._actors: list[Any] = []
        self._trainer: Any = None
        self._rollouts: Any = None
        self._places: Any = None
        self._silent: dict[int, int] = {}

    async def start_shards(self, options: list[HostOptions]) -> list[str]:
        await asyncio.to_thread(_end_left_over)
        actor = ray.remote(ShardActor)
        # A group's places stay spread; what SPREAD or a soft affinity wish for, a busy node passes on.
        self._places = placement_group(
            [{"CPU": SHARD_CPU}] * len(options), strategy="SPREAD", name=PLACES, lifetime="detached"
        )
        await asyncio.wait_for(_result(self._places.ready()), START_TIMEOUT_S)
        # More processes starting than there are cores only hinder each other, until all of them are late.
        n_cores = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
        n_at_once = max(2, int(n_cores))
        addresses: list[str] = []
        for first in range(0, len(options), n_at_once):
            wave = [self._begin(actor, first + i, one) for i, one in enumerate(options[first : first + n_at_once])]
            refs = [asyncio.ensure_future(_result(one.address.remote())) for one in wave]
            _, waiting = await asyncio.wait(refs, timeout=START_TIMEOUT_S)
            if waiting:
                late = ", ".join(str(first + i) for i, ref in enumerate(refs) if ref in waiting)
                raise Unavailable("shards_not_started", f"shards {late} have not started after {START_TIMEOUT_S:.0f} s")
            addresses += [str(ref.result()) for ref in refs]
        return addresses

    def _begin(self, actor: Any, place: int, options: HostOptions) -> Any:
        begun = actor.options(
            name=f"shard-{options.index}",
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=SHARD_CPU,
            max_restarts=-1,
            max_task_retries=0,
            max_pending_calls=100,
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                self._places, placement_group_bundle_index=place, placement_group_capture_child_tasks=False
            ),
        ).remote(options)
        self._actors.append(begun)
        return begun

    async def start_trainer(self, options: TrainerOptions) -> None:
        self._trainer = _beside(TrainerActor, "trainer", options)

    async def start_rollouts(self, options: RolloutOptions) -> None:
        self._rollouts = _beside(RolloutActor, "rollouts", options)

    async def describe(self) -> list[dict[str, Any]]:
        found = await asyncio.gather(*(one.describe.remote() for one in self._actors), return_exceptions=True)
        return [one for one in found if isinstance(one, dict)]

    async def mend(self) -> list[int]:
        """Ray restarts what dies; what hangs it does not see. After some silent looks in a row it is killed."""
        looks = [asyncio.ensure_future(_result(one.describe.remote())) for one in self._actors]
        if looks:
            await asyncio.wait(looks, timeout=LOOK_WITHIN_S)
        mended = []
        for index, look in enumerate(looks):
            failure = look.exception() if look.done() else TimeoutError()
            if failure is None or isinstance(failure, ray.exceptions.RayActorError):
                # An answer, or a death that Ray is mending already.
                self._silent.pop(index, None)
                continue
            look.cancel()
            self._silent[index] = self._silent.get(index, 0) + 1
            if self._silent[index] >= SILENT_LOOKS:
                log.error("shard %d does not answer; it is started anew", index)
                ray.kill(self._actors[index], no_restart=False)
                self._silent.pop(index)
                mended.append(index)
        return mended

    async def stop(self) -> None:
        everybody = [*self._actors, *(one for one in (self._trainer, self._rollouts) if one is not None)]
        stopping = [asyncio.ensure_future(_quietly(one.stop.remote())) for one in everybody]
        if stopping:
            await asyncio.wait(stopping, timeout=STOP_TIMEOUT_S)
        for one in everybody:
            ray.kill(one, no_restart=True)
        if self._places is not None:
            remove_placement_group(self._places)
        self._actors, self._trainer, self._rollouts, self._places = [], None, None, None


def _beside(actor: type, name: str, options: Any) -> Any:
    """A named, detached actor beside the shards that restarts for ever."""
    placed: Any = ray.remote(actor).options(
        name=name, namespace=NAMESPACE, lifetime="detached", num_cpus=SHARD_CPU, max_restarts=-1, max_task_retries=0
    )
    return placed.remote(options)


def _end_left_over() -> None:
    """End the shards of an `up` that was killed on a lasting cluster: their options are of another time.

    Nothing is lost: the new ones take their partitions over under a new epoch, as after any death.
    """

    def left() -> list[str]:
        every: list[dict[str, str]] = ray.util.list_named_actors(all_namespaces=True)
        return [one["name"] for one in every if one["namespace"] == NAMESPACE]

    for name in left():
        with suppress(ValueError):
            ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
    with suppress(ValueError):
        remove_placement_group(ray.util.get_placement_group(PLACES))
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while left():
        if time.monotonic() > give_up_at:
            raise Unavailable("shards_not_ended", "shards of an earlier start do not end")
        time.sleep(0.02)


async def _result(ref: Any) -> Any:
    return await ref


async def _quietly(ref: Any) -> None:
    try:
        await ref
    except ray.exceptions.RayError:
        return
