"""Webhooks: signed, tried again with back-off, laid aside, sent anew; every transition at least once, with one key."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from actors.embedded import EmbeddedStore
from actors.history import History
from actors.memory import memory_stores
from actors.message import Answer, Destination, body_of, verify
from actors.messenger import DEAD, OFFSETS, Messenger
from actors.stores import APPENDED, Entry, Stores
from actors.valkey import valkey_stores
from engine.errors import Conflict
from engine.ids import profile_id
from engine.record import segments_record
from engine.sticky import bucket
from engine.transitions import transitions
from serving.webhooks import http_post
from tests.actors.receiver import DRIP, HANG, Receiver
from tests.actors.town import BOOK, Town, scroll
from tests.engine.builders import MINUTE, T0

SECRET = b"a secret of the shop"
ROOT = Path(__file__).parents[2]
CAMPAIGN: dict[str, Any] = {**BOOK["campaigns"]["cart"], "webhooks": {"mail": {"segments": ["deep"]}}}
HOOKED: dict[str, Any] = {**BOOK, "campaigns": {"cart": CAMPAIGN}}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    shop = await Receiver().start()
    yield shop
    await shop.stop()


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    made = await Town(memory_stores()).start(HOOKED)
    yield made
    await made.stop()


def messenger(stores: Stores, shop: Receiver, waits: list[float] | None = None, **more: Any) -> Messenger:
    """A messenger over a real connection whose pauses are noted instead of kept."""

    async def note(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    to = Destination("mail", shop.url, SECRET, **{"timeout_s": 2.0, **more})
    history = History(stores.journal, None)
    return Messenger(stores, history, {"mail": to}, http_post(), lambda: T0, note)


async def drained(one: Messenger) -> None:
    while await one.step("mail"):
        pass


async def scrolled(town: Town, *tracks: str) -> None:
    for track in tracks:
        await town.observe(track, scroll(0.9, town.clock.now_ms))


async def test_entering_and_leaving_a_segment_reaches_the_shop_signed(town: Town, receiver: Receiver) -> None:
    one = messenger(town.stores, receiver)
    await drained(one)
    await scrolled(town, "anon:a")
    town.clock.now_ms += MINUTE
    for n in range(12):
        await town.observe("anon:a", scroll(0.01, town.clock.now_ms, f"m{n}"))
    town.clock.now_ms += 60 * MINUTE
    await town.observe("anon:a", scroll(0.01, town.clock.now_ms))
    await drained(one)
    told = [orjson.loads(body) for body in receiver.bodies]
    assert [m["type"] for m in told] == ["segment.entered", "segment.left"]
    assert [m["segment"] for m in told] == ["deep", "deep"]
    assert told[0]["profileId"] == profile_id("anon:a")
    assert told[0]["anonymousId"] == "a"
    assert told[1]["since"] == told[0]["timestamp"]
    for headers, body in zip(receiver.headers, receiver.bodies, strict=True):
        assert verify(headers["kairos-signature"], body, SECRET, T0 / 1000)
        assert not verify(headers["kairos-signature"], body + b" ", SECRET, T0 / 1000)
        assert not verify(headers["kairos-signature"], body, SECRET, T0 / 1000 + 3600)
        assert headers["idempotency-key"] == orjson.loads(body)["id"]


async def test_what_was_before_the_destination_was_named_is_not_news(town: Town, receiver: Receiver) -> None:
    await scrolled(town, "anon:a")
    one = messenger(town.stores, receiver)
    await drained(one)
    assert receiver.bodies == []
    await scrolled(town, "anon:b")
    await drained(one)
    assert [orjson.loads(b)["anonymousId"] for b in receiver.bodies] == ["b"]


async def test_failures_and_hangs_are_tried_again_with_growing_pauses_and_one_key(
    town: Town, receiver: Receiver
) -> None:
    waits: list[float] = []
    one = messenger(town.stores, receiver, waits, timeout_s=0.2)
    await drained(one)
    await scrolled(town, "anon:a")
    receiver.answers = lambda n: {1: 500, 2: HANG, 3: 503, 4: 429}.get(n, 204)
    await drained(one)
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert len({h["idempotency-key"] for h in receiver.headers}) == 1
    assert [h["kairos-attempt"] for h in receiver.headers] == ["1", "2", "3", "4", "5"]
    assert len(set(receiver.bodies)) == 1
    assert len(receiver.taken) == 1


async def test_an_answer_that_comes_drop_by_drop_is_a_try_in_vain(town: Town, receiver: Receiver) -> None:
    one = messenger(town.stores, receiver, timeout_s=0.2)
    await drained(one)
    await scrolled(town, "anon:a")
    receiver.answers = lambda n: DRIP if n == 1 else 200
    async with asyncio.timeout(20):
        await drained(one)
    assert [h["kairos-attempt"] for h in receiver.headers] == ["1", "2"]


@pytest.mark.parametrize(
    ("root", "name"),
    [("user:u", "userId"), ("email:" + "0a" * 32, "emailSha256"), ("device:d", "deviceId"), ("anon:a", "anonymousId")],
)
def test_a_message_names_the_most_personal_identity_by_its_kind(root: str, name: str) -> None:
    (entered,) = transitions(segments_record(root, T0, {"cart.deep": [T0]}, {}), "0_1_1_0")
    told = orjson.loads(body_of(entered))
    assert told[name] == root.partition(":")[2]
    assert told["profileId"] == profile_id(root)
    assert sum(key in told for key in ("userId", "emailSha256", "deviceId", "anonymousId")) == 1


async def test_what_is_never_taken_is_laid_aside_without_personal_data_and_others_go_on(
    town: Town, receiver: Receiver
) -> None:
    one = messenger(town.stores, receiver, tries=3)
    await drained(one)
    receiver.answers = lambda n: 500 if n <= 3 else 200
    await scrolled(town, "anon:someone-special")
    await drained(one)
    await scrolled(town, "anon:b")
    await drained(one)
    ((_, _, letter),) = await town.stores.documents.list(DEAD)
    assert (letter["tries"], letter["status"], letter["segment"]) == (3, 500, "deep")
    assert "special" not in str(letter)
    assert len(receiver.taken) == 1


async def test_a_hopeless_answer_is_not_tried_again(town: Town, receiver: Receiver) -> None:
    one = messenger(town.stores, receiver)
    await drained(one)
    receiver.answers = lambda n: 410
    await scrolled(town, "anon:a")
    await drained(one)
    assert len(receiver.bodies) == 1
    assert len(await town.stores.documents.list(DEAD)) == 1


async def test_a_dead_letter_is_sent_anew_with_its_key_and_is_gone(town: Town, receiver: Receiver) -> None:
    one = messenger(town.stores, receiver, tries=1)
    await drained(one)
    receiver.answers = lambda n: 500
    await scrolled(town, "anon:a")
    await drained(one)
    receiver.answers = lambda n: 200
    ((name, rev, letter),) = await town.stores.documents.list(DEAD)
    await one.step("mail")
    assert receiver.taken == []
    assert await town.stores.documents.compare_and_set(name, rev, {**letter, "redrive": True})
    await one.step("mail")
    assert receiver.taken == [letter["key"]]
    assert receiver.bodies[0] == receiver.bodies[1]
    assert await town.stores.documents.list(DEAD) == []


async def test_a_dead_letter_of_somebody_who_was_erased_goes_without_being_sent(town: Town, receiver: Receiver) -> None:
    one = messenger(town.stores, receiver, tries=1)
    await drained(one)
    receiver.answers = lambda n: 500
    await scrolled(town, "anon:a")
    await drained(one)
    ((name, rev, letter),) = await town.stores.documents.list(DEAD)
    partition, epoch, seq, _ = map(int, letter["place"].split("_"))
    await town.stores.journal.redact(partition, (epoch, seq), b"[1,null,null]")
    await town.stores.documents.compare_and_set(name, rev, {**letter, "redrive": True})
    await one.step("mail")
    assert len(receiver.bodies) == 1
    assert await town.stores.documents.list(DEAD) == []


async def test_the_holdout_is_left_out_unless_the_book_says_otherwise(receiver: Receiver) -> None:
    campaign = {**CAMPAIGN, "holdout": {"share": 0.5}}
    town = await Town(memory_stores()).start({**BOOK, "campaigns": {"cart": campaign}})
    one = messenger(town.stores, receiver)
    await drained(one)
    tracks = [f"anon:{n}" for n in range(12)]
    await scrolled(town, *tracks)
    await drained(one)
    free = {t for t in tracks if bucket("holdout.cart", t) >= 0.5}
    assert 0 < len(free) < 12
    assert {"anon:" + orjson.loads(b)["anonymousId"] for b in receiver.bodies} == free
    await town.stop()


@pytest.mark.parametrize("was_held", [True, False])
async def test_a_holdout_is_that_which_was_assigned_also_after_a_link_and_with_another_share(
    receiver: Receiver, was_held: bool
) -> None:
    def book(share: float) -> dict[str, Any]:
        return {**BOOK, "campaigns": {"cart": {**CAMPAIGN, "holdout": {"share": share}}}}

    anon = next(f"anon:{n}" for n in range(99) if (bucket("holdout.cart", f"anon:{n}") < 0.4) == was_held)
    user = next(f"user:{n}" for n in range(99) if (bucket("holdout.cart", f"user:{n}") < 0.3) != was_held)
    town = await Town(memory_stores()).start(book(0.4))
    one = messenger(town.stores, receiver)
    await drained(one)
    assert (await town.decide(anon))["decision"]["holdout"] is was_held
    await town.link(anon, user)
    await scrolled(town, user)
    await town.publish(book(0.3))
    await drained(one)
    assert len(receiver.taken) == (not was_held)
    assert (await town.decide(user))["decision"]["holdout"] is was_held
    await town.stop()


async def test_a_second_messenger_notices_the_first(town: Town, receiver: Receiver) -> None:
    one, other = messenger(town.stores, receiver), messenger(town.stores, receiver)
    await drained(one)
    await drained(other)
    await scrolled(town, "anon:a")
    await drained(one)
    with pytest.raises(Conflict):
        await drained(other)


async def test_an_answer_may_ask_to_be_spared_for_longer() -> None:
    to = Destination("mail", "http://x", SECRET)
    assert to.wait_s(1, 0.0) == 0.5
    assert to.wait_s(1, 1.0, asked_s=60) == 60
    assert to.wait_s(1, 1.0, asked_s=10_000) == to.longest_wait_s


async def test_nobody_there_is_an_answer_too() -> None:
    answer = await http_post()("http://127.0.0.1:9/hooks", b"{}", {}, 1.0)
    assert (answer.status, answer.taken) == (0, False)
    assert answer.error
    assert not Answer(302).taken


@pytest.mark.slow
async def test_kills_in_between_lose_nothing_and_give_every_transition_one_key(
    tmp_path: Path, receiver: Receiver
) -> None:
    store = EmbeddedStore(tmp_path / "data")
    await store.start()
    stores = valkey_stores(store.url)
    await stores.table.create(4)
    await stores.versions.put("book", "b1", {}, orjson.dumps(HOOKED))
    await stores.versions.publish(0, {"book": "b1", "model": "prior-1"})
    await drained(messenger(stores, receiver))
    inside = {"cart.deep": [T0]}
    expected = set()
    for n in range(40):
        record = segments_record(f"anon:{n}", T0 + n, inside if n % 2 == 0 else {}, {} if n % 2 == 0 else inside)
        entry = Entry(n % 4, 1, 1 + n // 4, orjson.dumps([1, record]))
        assert await stores.journal.append([entry]) == [APPENDED]
        expected |= {t.key for t in transitions(record, f"{n % 4}_1_{1 + n // 4}_0")}
    assert len(expected) == 40
    ends = []
    for kill_at in (3, 1, 6, 2, 9, 0):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.actors.messenger_process", store.url, receiver.url, str(kill_at), cwd=ROOT
        )
        ends.append(await process.wait())
    assert ends == [-9] * 5 + [0]
    assert set(receiver.taken) == expected
    assert len(receiver.taken) > len(expected)
    by_key = {orjson.loads(b)["id"]: b for b in receiver.bodies}
    assert all(by_key[orjson.loads(b)["id"]] == b for b in receiver.bodies)
    ((_, _, told),) = await stores.documents.list(OFFSETS)
    assert [tuple(at) for at in told["offsets"]] == [(1, 10)] * 4
    await stores.close()
    await store.stop()
