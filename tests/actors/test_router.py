"""The router: finds the shard of a track, follows what moved, and repeats only what may be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from actors.asking import Asks, Hints, LocalRouter
from actors.memory import MemoryTable
from actors.router import DeadlineExceeded, Router, ShardUnavailable
from actors.stores import TableState
from actors.stream import Request, StreamServer
from engine.errors import Unavailable
from engine.ids import partition_of

N = 8
T_S = 10.0
Answer = Callable[[str, dict[str, Any], int], dict[str, Any]]


class Town:
    """A table and, by address, how the shard there answers; no network."""

    def __init__(self) -> None:
        self.table = MemoryTable()
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str, int]] = []
        self.retired: list[str] = []
        self.gates: dict[int, Callable[[int], Awaitable[None]]] = {}
        self.router = Router(self.table, dial=lambda address, _secret: Line(self, address), refresh_every_s=0.001)

    async def own(self, owners: dict[int, str], *, owner_of: Callable[[int], int]) -> None:
        """Let shards listen at addresses and own partitions."""
        held = await self.table.create(N)
        for shard, address in owners.items():
            await self.table.announce(shard, address, held.version)
        new = replace(held, owners=tuple(owner_of(p) for p in range(N)))
        assert await self.table.compare_and_set(held.version, new)


class Line:
    """The stream to one address of the town."""

    def __init__(self, town: Town, address: str) -> None:
        self._town, self._address = town, address

    async def request(self, payload: bytes, timeout_s: float) -> bytes:
        op, body, partition = orjson.loads(payload)
        self._town.asked.append((self._address, op, partition))
        await self._town.gates.get(partition, asyncio.sleep)(0)
        return orjson.dumps(self._town.answers[self._address](op, body, partition))

    def begin(self, payload: bytes) -> None:
        return None

    def retire(self) -> None:
        self._town.retired.append(self._address)

    async def close(self) -> None:
        pass


def fails(code: str, then: Answer | None = None) -> Answer:
    """An answer that fails with a code: always, or the first time."""
    left = [1] if then else None

    def answer(op: str, payload: dict[str, Any], partition: int) -> dict[str, Any]:
        if left is None or left:
            if left:
                left.pop()
            raise Unavailable(code, "…")
        assert then is not None
        return then(op, payload, partition)

    return answer


def says(reply: dict[str, Any]) -> Answer:
    return lambda _op, _payload, _partition: reply


def in_turn(*replies: dict[str, Any]) -> Answer:
    left = list(replies)
    return lambda _op, _payload, _partition: left.pop(0)


def tracks_of_different_partitions() -> tuple[str, str]:
    first = "anon:a"
    second = next(f"user:{i}" for i in range(99) if partition_of(f"user:{i}", N) != partition_of(first, N))
    return first, second


@pytest.fixture
async def town() -> Town:
    """Shard 0 at a:1 owns the even partitions, shard 1 at b:1 the odd."""
    town = Town()
    await town.own({0: "a:1", 1: "b:1"}, owner_of=lambda p: p % 2)
    town.answers = {"a:1": says({"at": "a"}), "b:1": says({"at": "b"})}
    return town


async def test_a_partition_is_asked_where_the_table_says(town: Town) -> None:
    assert await town.router.ask_partition(2, "stats", {}, timeout_s=T_S) == {"at": "a"}
    assert await town.router.ask_partition(3, "stats", {}, timeout_s=T_S) == {"at": "b"}
    assert town.router.n_refreshes == 1


async def test_a_track_is_asked_at_its_home(town: Town) -> None:
    for track in ("anon:a", "user:ü", "user:0"):
        home = partition_of(track, N)
        assert await town.router.ask(track, "score", {"track": track}, timeout_s=T_S) == {"at": "ab"[home % 2]}
        assert town.asked[-1][2] == home


async def test_many_first_requests_read_the_table_once(town: Town) -> None:
    await asyncio.gather(*(town.router.ask(f"anon:{i}", "score", {}, timeout_s=T_S) for i in range(50)))
    assert town.router.n_refreshes == 1


async def test_not_mine_leads_to_the_new_owner(town: Town) -> None:
    await town.router.ask_partition(0, "stats", {}, timeout_s=T_S)
    town.answers["a:1"] = says({"not_mine": True})
    await town.own({}, owner_of=lambda _p: 1)
    assert await town.router.ask_partition(0, "decide", {}, timeout_s=T_S) == {"at": "b"}
    assert town.router.n_refreshes == 2


async def test_not_mine_from_everybody_ends_with_the_time(town: Town) -> None:
    town.answers["a:1"] = says({"not_mine": True})
    with pytest.raises(ShardUnavailable, match="not its own") as failed:
        await town.router.ask_partition(0, "observe", {}, timeout_s=0.03)
    assert failed.value.code == "shard_unavailable"
    assert len(town.asked) > 1


async def test_many_refused_requests_share_one_refresh(town: Town) -> None:
    await town.router.ask_partition(0, "stats", {}, timeout_s=T_S)
    town.answers["a:1"] = says({"not_mine": True})
    await town.own({}, owner_of=lambda _p: 1)
    await asyncio.gather(*(town.router.ask_partition(0, "observe", {}, timeout_s=T_S) for _ in range(50)))
    assert town.router.n_refreshes == 2


async def test_a_late_not_mine_does_not_have_the_table_read_once_more(town: Town) -> None:
    await town.router.ask_partition(0, "stats", {}, timeout_s=T_S)
    town.answers["a:1"] = says({"not_mine": True})
    gate = asyncio.Event()

    async def held(_s: int) -> None:
        await gate.wait()

    town.gates[2] = held
    late = asyncio.ensure_future(town.router.ask_partition(2, "observe", {}, timeout_s=T_S))
    await asyncio.sleep(0)
    await town.own({}, owner_of=lambda _p: 1)
    assert await town.router.ask_partition(0, "observe", {}, timeout_s=T_S) == {"at": "b"}
    gate.set()
    assert await late == {"at": "b"}
    assert town.router.n_refreshes == 2


async def test_a_shard_that_came_back_elsewhere_is_found(town: Town) -> None:
    await town.router.ask_partition(0, "stats", {}, timeout_s=T_S)
    town.answers["a:1"] = fails("not_connected")
    town.answers["a:2"] = says({"at": "a again"})
    await town.table.announce(0, "a:2", 7)
    assert await town.router.ask_partition(0, "observe", {}, timeout_s=T_S) == {"at": "a again"}
    assert town.retired == ["a:1"]


@pytest.mark.parametrize("op", ["observe", "link", "reward", "profile", "erase", "score"])
async def test_what_is_repeatable_is_sent_again_after_a_lost_connection(town: Town, op: str) -> None:
    town.answers["a:1"] = fails("connection_lost", then=says({"at": "a"}))
    assert await town.router.ask_partition(0, op, {}, timeout_s=T_S) == {"at": "a"}
    assert len(town.asked) == 2


async def test_a_decide_with_a_request_id_is_sent_again_after_a_lost_connection(town: Town) -> None:
    town.answers["a:1"] = fails("connection_lost", then=says({"at": "a"}))
    assert await town.router.ask_partition(0, "decide", {"request_id": "r"}, timeout_s=T_S) == {"at": "a"}


async def test_a_decide_without_a_request_id_is_never_sent_twice(town: Town) -> None:
    town.answers["a:1"] = fails("connection_lost", then=says({"at": "a"}))
    with pytest.raises(ShardUnavailable):
        await town.router.ask_partition(0, "decide", {}, timeout_s=T_S)
    assert len(town.asked) == 1


async def test_a_decide_that_was_not_sent_is_tried_again(town: Town) -> None:
    town.answers["a:1"] = fails("not_connected", then=says({"at": "a"}))
    assert await town.router.ask_partition(0, "decide", {}, timeout_s=T_S) == {"at": "a"}


async def test_an_overloaded_stream_is_not_asked_again(town: Town) -> None:
    town.answers["a:1"] = fails("overloaded")
    with pytest.raises(ShardUnavailable):
        await town.router.ask_partition(0, "observe", {}, timeout_s=T_S)
    assert len(town.asked) == 1


async def test_no_answer_in_time_is_said_so(town: Town) -> None:
    town.answers["a:1"] = fails("deadline_exceeded")
    with pytest.raises(DeadlineExceeded) as late:
        await town.router.ask_partition(0, "observe", {}, timeout_s=T_S)
    assert late.value.code == "deadline_exceeded"
    await town.router.close()


async def test_a_recovering_partition_is_waited_for(town: Town) -> None:
    recovering = {"unavailable": {"code": "recovering", "message": ""}}
    town.answers["a:1"] = in_turn(recovering, recovering, {"at": "a"})
    assert await town.router.ask_partition(0, "decide", {}, timeout_s=T_S) == {"at": "a"}


async def test_a_partition_that_does_not_recover_in_time_says_so_itself(town: Town) -> None:
    recovering = {"unavailable": {"code": "recovering", "message": "…"}}
    town.answers["a:1"] = says(recovering)
    assert await town.router.ask_partition(0, "observe", {}, timeout_s=0.03) == recovering


async def test_other_refusals_of_a_shard_are_passed_on(town: Town) -> None:
    overloaded = {"unavailable": {"code": "overloaded", "message": "…"}}
    town.answers["a:1"] = says(overloaded)
    assert await town.router.ask_partition(0, "observe", {}, timeout_s=T_S) == overloaded
    assert len(town.asked) == 1


async def test_without_a_table_the_time_runs_out_and_with_one_it_goes_on() -> None:
    town = Town()
    with pytest.raises(ShardUnavailable, match="table"):
        await town.router.ask("anon:a", "score", {}, timeout_s=0.02)
    await town.own({0: "a:1"}, owner_of=lambda _p: 0)
    town.answers["a:1"] = says({"at": "a"})
    assert await town.router.ask("anon:a", "score", {}, timeout_s=T_S) == {"at": "a"}


async def test_a_store_that_fails_leaves_the_table_as_it_was_known(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await town.router.ask_partition(0, "stats", {}, timeout_s=T_S)

    async def down() -> TableState:
        raise Unavailable("store_unavailable", "…")

    monkeypatch.setattr(town.table, "read", down)
    town.answers["a:1"] = in_turn({"not_mine": True}, {"at": "a"})
    assert await town.router.ask_partition(0, "observe", {}, timeout_s=T_S) == {"at": "a"}


# -- what moves --


def moved_from(town: Town, home: str, to: str) -> None:
    def answer(_op: str, _payload: dict[str, Any], partition: int) -> dict[str, Any]:
        return {"at": to} if partition == partition_of(to, N) else {"moved": to}

    assert partition_of(home, N) != partition_of(to, N)
    town.answers = {"a:1": answer, "b:1": answer}


async def test_a_moved_track_is_followed_and_found_directly_the_next_time(town: Town) -> None:
    home, target = tracks_of_different_partitions()
    moved_from(town, home, target)
    assert await town.router.ask(home, "observe", {"track": home}, timeout_s=T_S) == {"at": target}
    assert [p for *_, p in town.asked] == [partition_of(home, N), partition_of(target, N)]
    town.asked.clear()
    await town.router.ask(home, "observe", {"track": home}, timeout_s=T_S)
    assert [p for *_, p in town.asked] == [partition_of(target, N)]


async def test_a_hint_that_is_no_longer_true_leads_back_home(town: Town) -> None:
    home, target = tracks_of_different_partitions()
    moved_from(town, home, target)
    await town.router.ask(home, "observe", {}, timeout_s=T_S)
    moved_from(town, target, home)
    assert await town.router.ask(home, "observe", {}, timeout_s=T_S) == {"at": home}
    assert len(town.router.hints) == 0


async def test_shards_that_point_at_each_other_do_not_hold_a_request_for_ever(town: Town) -> None:
    first, second = tracks_of_different_partitions()

    def answer(_op: str, _payload: dict[str, Any], partition: int) -> dict[str, Any]:
        return {"moved": second if partition == partition_of(first, N) else first}

    town.answers = {"a:1": answer, "b:1": answer}
    with pytest.raises(ShardUnavailable, match="point at each other"):
        await town.router.ask(first, "observe", {}, timeout_s=60.0)
    assert 2 <= len(town.asked) <= 8


async def test_shards_that_point_at_each_other_for_a_moment_are_waited_for(town: Town) -> None:
    first, second = tracks_of_different_partitions()
    replies = iter([{"moved": second}, {"moved": first}, {"moved": second}, {"at": second}])
    town.answers = {"a:1": lambda *_: next(replies), "b:1": lambda *_: next(replies)}
    assert await town.router.ask(first, "observe", {}, timeout_s=T_S) == {"at": second}


def test_hints_forget_the_least_recently_used() -> None:
    hints = Hints(max_hints=2)
    hints.learn("anon:1", "user:1")
    hints.learn("anon:2", "user:2")
    assert hints.at("anon:1") == "user:1"
    hints.learn("anon:3", "user:3")
    assert [hints.at(f"anon:{i}") for i in (1, 2, 3)] == ["user:1", "anon:2", "user:3"]


# -- in process, and over real streams --


class Twin:
    def __init__(self, name: str) -> None:
        self.name = name

    async def ask(self, op: str, payload: dict[str, Any], partition: int) -> dict[str, Any]:
        if op == "hang":
            await asyncio.Event().wait()
        return {"at": self.name, "partition": partition, "payload": payload}


async def test_the_local_router_asks_as_the_real_one_does() -> None:
    router: Asks = LocalRouter([Twin("a"), Twin("b")], N)
    payload = {"signals": [["page", 1, 2**63, {}]]}
    home = partition_of("anon:x", N)
    reply = await router.ask("anon:x", "observe", payload, timeout_s=T_S)
    assert reply == {"at": "ab"[home % 2], "partition": home, "payload": payload}
    assert reply["payload"] is not payload
    with pytest.raises(DeadlineExceeded):
        await router.ask("anon:x", "hang", {}, timeout_s=0.01)


class RealShard:
    """A stream server that answers as one shard."""

    def __init__(self, name: str, secret: bytes) -> None:
        self.name, self.n_asked = name, 0
        self.server = StreamServer(self._take, secret)

    def _take(self, batch: list[Request]) -> None:
        for request in batch:
            self.n_asked += 1
            op, _payload, partition = orjson.loads(request.payload)
            if op != "hang":
                request.reply(orjson.dumps({"at": self.name, "partition": partition}))


async def test_over_real_streams_a_shard_that_moves_is_followed_and_a_silent_one_times_out() -> None:
    table = MemoryTable()
    state = await table.create(N)
    secret = await table.secret("stream")
    first, second = RealShard("first", secret), RealShard("second", secret)
    await table.announce(0, await first.server.start(), 1)
    await table.compare_and_set(0, replace(state, owners=(0,) * N))
    router: Asks = Router(table, refresh_every_s=0.001)
    assert await router.ask("anon:a", "observe", {}, timeout_s=T_S) == {
        "at": "first",
        "partition": partition_of("anon:a", N),
    }
    with pytest.raises(DeadlineExceeded):
        await router.ask_partition(1, "hang", {}, timeout_s=0.02)
    await table.announce(0, await second.server.start(), 2)
    await first.server.stop()
    replies = await asyncio.gather(*(router.ask_partition(p, "observe", {}, timeout_s=T_S) for p in range(N)))
    assert [reply["at"] for reply in replies] == ["second"] * N
    assert isinstance(router, Router)
    await router.close()
    await second.server.stop()


async def test_over_real_streams_a_shard_that_is_gone_is_unavailable_within_the_time() -> None:
    table = MemoryTable()
    state = await table.create(N)
    shard = RealShard("gone", await table.secret("stream"))
    await table.announce(0, await shard.server.start(), 1)
    await table.compare_and_set(0, replace(state, owners=(0,) * N))
    router = Router(table)
    await router.ask_partition(0, "observe", {}, timeout_s=T_S)
    await shard.server.stop()
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    with pytest.raises(ShardUnavailable):
        await router.ask_partition(0, "observe", {}, timeout_s=0.1)
    assert loop.time() - begun_s < 5
    await router.close()
