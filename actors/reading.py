"""What a shard tells without changing anything: decisions and their replays, profiles, exports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import orjson

from actors.dry_running import DryRuns
from actors.operations import Later, Reply, Scene, error, locate, profile_identity
from engine.decide import decide
from engine.decision import Decision
from engine.dice import SeededDice
from engine.explain import explain
from engine.features import profile_features
from engine.harmony import tell_source
from engine.ids import DecisionId
from engine.inputs import Inputs, cohorts_of
from engine.profile import view
from engine.record import DECISION, ENGINE_VERSION, Record
from engine.schema import PROFILE_FEATURES, schema_hash
from engine.world import World

if TYPE_CHECKING:
    from actors.call import Call
    from actors.shard import SessionShard

REPEAT_S: Final = 2.0


class Reading:
    """Answers from the journal and from profiles as they stand."""

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard
        self.dry_runs = DryRuns(shard)

    # -- decisions -------------------------------------------------------------------------------------

    def of_decision(self, call: Call) -> Later:
        """Find the decision's record; show it, or send a reward on to the profile it was made for."""

        async def find() -> Reply:
            wanted = DecisionId.parse(call.payload["decision_id"])
            record = await self._record(wanted)
            if isinstance(record, dict):
                return record
            if call.op == "decision":
                return await self._shown(wanted, record, bool(call.payload.get("replay")))
            if call.op == "repeat":
                return await self._again(wanted, record, bool(call.payload.get("explain")))
            payload = {**call.payload, "track": record[1]}
            return await self._shard.ask(call.op, payload, wanted.partition)

        return find

    def repeated(self, call: Call, decision_id: str) -> Later:
        """The answer given before for the same requestId, also from where the track was before a link.

        A decision beyond its retention is taken anew: a decision always arrives.
        """

        async def again() -> Reply:
            wanted = DecisionId.parse(decision_id)
            asked = {"decision_id": decision_id, "explain": call.payload.get("explain")}
            if wanted.partition in self._shard.partitions:
                reply = await self._shard.ask("repeat", asked, wanted.partition)
            else:
                reply = await self._shard.mesh.ask_partition(wanted.partition, "repeat", asked, timeout_s=REPEAT_S)
            if "error" not in reply:
                return reply
            return await self._shard.ask("decide", {**call.payload, "anew": True}, call.partition)

        return again

    async def _again(self, wanted: DecisionId, record: Record, explained: bool) -> Reply:
        inputs, decision = Inputs.from_list(record[7]), Decision.from_list(record[8])
        body = decision.response(inputs.root, inputs.request.placement, str(wanted))
        self._shard.desk.finish(body, decision, inputs, str(wanted))
        if inputs.request.source is not None:
            tell_source(body, inputs.request.source)
        if explained:
            body["explain"] = await self._explained(record)
        return {"decision": body, "status": 200}

    async def _record(self, wanted: DecisionId) -> Record | Reply:
        shard = self._shard
        if wanted.partition not in shard.partitions:
            return {"not_mine": True}
        place = (wanted.epoch, wanted.seq)
        payload = await shard.history.get(wanted.partition, place)
        if payload is None:
            if await shard.history.was_held(wanted.partition, place):
                return _expired()
            return error("unknown_decision", "no such decision", 404)
        records = orjson.loads(payload)[1:]
        if wanted.index >= len(records):
            return error("unknown_decision", "no such decision", 404)
        record: Record | None = records[wanted.index]
        if record is None:
            return error("expired", "the decision was erased, or is beyond its retention", 410)
        if record[0] != DECISION:
            return error("unknown_decision", "no such decision", 404)
        if shard.archiver is not None and record[2] < shard.clock() - shard.archiver.settings.decisions_ms:
            return _expired()
        return record

    async def _shown(self, wanted: DecisionId, record: Record, replay: bool) -> Reply:
        inputs, decision = Inputs.from_list(record[7]), Decision.from_list(record[8])
        engine, book, model, schema = record[5][:4]
        body = decision.response(inputs.root, inputs.request.placement, str(wanted))
        self._shard.desk.finish(body, decision, inputs, str(wanted))
        shown: dict[str, Any] = {
            **body,
            "at_ms": record[2],
            "versions": {"engine": engine, "book": book, "model": model, "schema": schema},
            "inputs": {
                "features": await self._features(schema, record[7][1]),
                "context": inputs.context,
                "memberships": inputs.memberships,
                "served": inputs.served,
                "assignments": inputs.assignments,
                **({} if inputs.supply is None else {"supply": inputs.supply.told()}),
            },
            "explain": await self._explained(record),
        }
        rewards = await self._rewards(wanted, record[1])
        if inputs.request.source is not None:
            tell_source(shown, inputs.request.source)
        if rewards is not None:
            shown["rewards"] = rewards
        if replay:
            shown["replay"] = await self._replay(record)
            shown["identical"] = shown["replay"]["identical"]
        return {"record": shown}

    async def _features(self, schema: str, values: list[float | None]) -> dict[str, float | None]:
        """By the names they had when they were recorded; by their places where nobody knows these any more."""
        names = await self._shard.worlds.schemas.names(schema)
        if names is None or len(names) != len(values):
            names = tuple(f"feature_{i}" for i in range(len(values)))
        return dict(zip(names, values, strict=True))

    async def _rewards(self, wanted: DecisionId, track_id: str) -> dict[str, Any] | None:
        reply = await self._shard.ask("rewards", {"track": track_id, "decision_id": str(wanted)}, wanted.partition)
        if "moved" in reply:
            reply = await self._shard.mesh.ask(
                track_id, "rewards", {"track": track_id, "decision_id": str(wanted)}, timeout_s=2.0
            )
        return reply.get("rewards")

    async def _world(self, record: Record) -> World | None:
        return await self._shard.worlds.at(record[5], record[8][12])

    async def _explained(self, record: Record) -> dict[str, Any] | None:
        world = await self._world(record) if record[5][3] == schema_hash() else None
        if world is None:
            return None
        return explain(Inputs.from_list(record[7]), world, Decision.from_list(record[8]), record[2])

    async def _replay(self, record: Record) -> dict[str, Any]:
        """Execute the recorded rung from the recorded inputs and versions and compare field by field."""
        if record[5][3] != schema_hash():
            schemas = f"recorded with the features of schema {record[5][3]}, replayed with those of {schema_hash()}"
            return {"identical": False, "differs": ["schema"], "reason": schemas}
        world = await self._world(record)
        if world is None:
            return {"identical": False, "differs": ["versions"], "reason": "a version it names is no longer kept"}
        if record[5][0] != ENGINE_VERSION:
            reason = f"decided by engine {record[5][0]}, replayed by {ENGINE_VERSION}"
        else:
            reason = None
        inputs = Inputs.from_list(record[7])
        # From the rung that was taken: a model that failed then may answer now.
        served = Decision.from_list(record[8])
        again = decide(inputs, world, now_ms=record[2], rng=SeededDice(record[3]), rung=served.rung, why=served.reason)
        names = list(Decision.__dataclass_fields__)
        now = orjson.loads(orjson.dumps(again.to_list()))
        was = record[8] + [None] * (len(names) - len(record[8]))
        differs = [name for name, a, b in zip(names, was, now, strict=True) if a != b]
        return {"identical": not differs, "differs": differs, **({"reason": reason} if reason else {})}

    # -- profiles --------------------------------------------------------------------------------------

    def rewards(self, scene: Scene, payload: dict[str, Any]) -> Reply:
        """The rewards recorded for a decision of a track."""
        track = scene.partition.live.get(payload["track"])
        if track is not None and track.moved_to is not None:
            return {"moved": track.moved_to}
        stub = None if track is None else track.decisions.get(payload["decision_id"])
        return {"rewards": None if stub is None else dict(stub.rewards)}

    def profile(self, scene: Scene, op: str, payload: dict[str, Any]) -> Reply | Later:
        """A profile as it stands, or everything held about it."""
        found = locate(scene.partition, payload["track"])
        if isinstance(found, dict):
            return found
        if found.root not in scene.partition.live:
            return error("unknown_profile", "nothing is known of this identity", 404)
        track = view(found.root, found.tracks)
        features = [None if math.isnan(x) else x for x in profile_features(track, scene.now_ms)]
        shown: dict[str, Any] = {
            **profile_identity(found.root, found.tracks),
            "features": dict(zip(PROFILE_FEATURES, features, strict=True)),
            "segments": {name: since[0] for name, since in sorted(track.memberships.items())},
            "traits": {name: stamp[0] for name, stamp in sorted(track.traits.items())},
            "cohorts": cohorts_of(track),
            "bot": track.is_bot,
            "n_signals": track.n_signals,
            "n_sessions": track.n_sessions,
            "sessions": [
                {"start_ms": s.start_ms, "end_ms": s.end_ms, "n_signals": s.n_signals} for s in track.sessions
            ],
            "last_seen_ms": track.latest_ms or None,
            "assignments": {name: a[0] for name, a in sorted(track.assignments.items())},
            "decisions": track.decisions.ids()[-20:],
        }
        if op == "profile":
            return {"profile": shown}
        snapshots = {t.id: t.snapshot() for t in found.tracks}
        partition, names = scene.partition, {t.id for t in found.tracks}

        async def export() -> Reply:
            records = await self._shard.history.records_of(partition.index, names)
            return {"export": {"profile": shown, "tracks": snapshots, "records": records}}

        return export


def _expired() -> Reply:
    return error("expired", "the decision is beyond its retention", 410)
