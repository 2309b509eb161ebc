"""What each request to a shard comes to: the operation by its name, and what is done of it beside the loop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from actors import operations as ops
from actors.call import Call
from actors.decided import Decided, answer_of, unrecorded
from actors.links import PARKED
from actors.no_book import world_without_book
from actors.operations import Outcome, Reply, Scene, unavailable
from actors.partition import Partition
from actors.redeeming import redeem
from engine.errors import KairosError, Unavailable

if TYPE_CHECKING:
    from actors.shard import SessionShard

log = logging.getLogger("kairos.shard")


class Evaluation:
    """Verbs: evaluate and told within a batch; after it finish, or unwritten."""

    def __init__(self, shard: SessionShard) -> None:
        self._shard, self._no_world = shard, world_without_book()

    def evaluate(self, call: Call, partition: Partition, now_ms: int) -> Outcome:
        """What one request comes to; its records are in the partition's entry, not yet durable."""
        shard = self._shard
        world = shard.worlds.current or self._no_world
        if "track" in call.payload:
            partition.used_ms[call.payload["track"]] = now_ms
        if shard.links.park(call, partition):
            return PARKED
        scene = Scene(partition, world, now_ms, shard.dice, shard.key, shard.exchange, shard.desk)
        expired = shard.erasure.expire(scene, call)
        if expired is not None:
            return expired
        if call.op == "observe":
            return ops.observe(scene, call.payload)
        if call.op == "decide":
            repeated = ops.repeated_decision(scene, call.payload)
            return shard.reading.repeated(call, repeated) if repeated else ops.decide_for(scene, call.payload)
        if call.op == "score":
            return ops.score_for(scene, call.payload)
        if call.op == "reward":
            return self._forwarded(call, ops.reward(scene, call.payload))
        if call.op == "redeem":
            return self._forwarded(call, redeem(scene, call.payload))
        if call.op == "supersede":
            return self._forwarded(call, ops.supersede(scene, call.payload))
        if call.op == "rewards":
            return shard.reading.rewards(scene, call.payload)
        if call.op in ("profile", "export"):
            return shard.reading.profile(scene, call.op, call.payload)
        if call.op == "stats":
            return {"shard": shard.index, **shard.told(), "live": sum(len(p.live) for p in shard.partitions.values())}
        if call.op == "dry_run":
            return shard.reading.dry_runs.later(call.payload)
        if call.op == "refresh":
            return shard.following.refreshed
        if call.op in ("erase", "forget"):
            return shard.erasure.evaluate(scene, call)
        return shard.links.evaluate(scene, call)

    def _forwarded(self, call: Call, reply: Reply) -> Reply | ops.Later:
        if "forward" not in reply:
            return reply

        async def forward() -> Reply:
            return await self._shard.mesh.ask(reply["forward"], call.op, call.payload, timeout_s=5.0)

        return forward

    async def finish(self, call: Call, work: ops.Later) -> None:
        """Do what remains of a request beside the loop, and answer it."""
        call.put_off()
        try:
            call.answer(await work())
        except asyncio.CancelledError:
            if self._shard.stopping:
                call.answer(unavailable("stopping", "the shard is stopping"))
            raise
        except Unavailable as failure:
            call.answer(unavailable(failure.code, failure.message))
        except KairosError as failure:
            call.answer(ops.error(failure.code, failure.message, 400))
        except Exception:
            log.exception("%s failed in shard %d", call.op, self._shard.index)
            call.answer(unavailable("internal", "the request could not be finished"))

    def told(self, call: Call, reply: Outcome) -> Reply | ops.Later:
        """What is answered once the journal has taken the records; a decision is put into words here."""
        if not isinstance(reply, Decided):
            return reply
        try:
            return answer_of(reply, self._shard.desk, call.payload)
        except Exception:
            log.exception("a decision of shard %d could not be told", self._shard.index)
            return unavailable("internal", "the request could not be evaluated")

    def unwritten(self, reply: Outcome, failure: KairosError) -> Reply:
        """What is answered instead where the journal did not take the records."""
        if isinstance(reply, Decided):
            return unrecorded(reply)
        return unavailable("not_durable", f"the journal did not take it: {failure.message}")
