"""The same shards, streams, store and HTTP application without Ray: the runtime's twin in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from actors.embedded import EmbeddedStore
from actors.hosting import HostOptions, epoch_ms
from actors.publishing import Publisher
from actors.runtime import LocalRuntime
from actors.supervisor import Supervisor
from actors.valkey import valkey_stores
from serving.books import SAMPLES
from serving.ingress import Ingress, IngressOptions
from serving.published import ensure_book
from serving.settings import Settings

N_SHARDS = 3


@pytest.fixture
async def kairos(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, LocalRuntime]]:
    store = EmbeddedStore(tmp_path)
    await store.start()
    stores = valkey_stores(store.url)
    await Supervisor(stores.table).assign(16, N_SHARDS)
    source = (SAMPLES / "cart_recovery.yaml").read_text("utf-8")
    await ensure_book(Publisher(stores.versions, stores.table, None, epoch_ms), source, "cart_recovery.yaml")
    runtime = LocalRuntime()
    await runtime.start_shards([HostOptions(i, store.url, "127.0.0.1") for i in range(N_SHARDS)])
    ingress = Ingress(IngressOptions(Settings(), store.url))
    await ingress.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(ingress), base_url="http://127.0.0.1") as http:
        yield http, runtime
    await ingress.stop()
    await runtime.stop()
    await stores.close()
    await store.stop()


async def test_a_visitor_is_seen_by_every_shard_that_has_a_part_of_them(
    kairos: tuple[httpx.AsyncClient, LocalRuntime],
) -> None:
    http, runtime = kairos
    for i in range(12):
        event = {"type": "track", "event": "Scroll Depth", "anonymousId": f"a{i}", "messageId": f"m{i}"}
        reply = await http.post("/v1/batch", json={"batch": [{**event, "properties": {"scroll_share": 0.9}}]})
        assert reply.json()["accepted"] == 1
        await http.post("/v1/identify", json={"anonymousId": f"a{i}", "userId": "ada", "messageId": f"i{i}"})
    profile = (await http.get("/v1/profiles/user:ada")).json()
    assert len(profile["identities"]) == 13
    decision = (await http.post("/v1/decide", json={"anonymousId": "a3", "placement": "product_page"})).json()
    assert (decision["profileId"], decision["recorded"]) == (profile["profileId"], True)
    replayed = await http.get(f"/v1/decisions/{decision['decisionId']}", params={"replay": "true"})
    assert replayed.json()["identical"] is True
    assert all(one["calls"] > 0 for one in await runtime.describe())


async def test_a_shard_whose_loop_does_not_turn_says_so(kairos: tuple[httpx.AsyncClient, LocalRuntime]) -> None:
    _, runtime = kairos
    runtime.hosts[0]._thread.loop.call_soon_threadsafe(time.sleep, 4.0)
    with pytest.raises(TimeoutError):
        runtime.hosts[0].describe()
    assert runtime.hosts[1].describe()["shard"] == 1


async def test_a_dry_run_goes_over_the_wire_to_every_shard_and_finds_every_decision(
    kairos: tuple[httpx.AsyncClient, LocalRuntime],
) -> None:
    http, _ = kairos
    ids = set()
    for i in range(12):
        reply = await http.post("/v1/decide", json={"anonymousId": f"a{i}", "placement": "product_page"})
        ids.add(reply.json()["decisionId"])
    source = (SAMPLES / "cart_recovery.yaml").read_text("utf-8")
    given = {"content-type": "application/yaml"}
    same = (await http.post("/v1/campaigns/dry-run", content=source, headers=given)).json()
    assert (same["decisions"], same["changed"], same["kinds"], same["shards"]) == (12, 0, {}, N_SHARDS)
    moved = source.replace("[product_page, cart_page]", "[cart_page]")
    found = (await http.post("/v1/campaigns/dry-run", content=moved, headers=given)).json()
    assert set(found["changedIds"]) == ids
    assert found["kinds"]["campaign"] == 12


async def test_every_mistake_of_a_book_sent_comes_back_with_its_line_and_nothing_in_it_is_an_error_of_ours(
    kairos: tuple[httpx.AsyncClient, LocalRuntime],
) -> None:
    http, _ = kairos
    given = {"content-type": "application/yaml"}
    wrong = 'currency: euro\ncampaigns:\n  c: {placements: [home]}\n  "d\\uD800": {placements: [home]}\n'
    for method, path in (
        ("PUT", "/v1/campaigns"),
        ("PUT", "/v1/campaigns?canary=0.1"),
        ("POST", "/v1/campaigns/dry-run"),
    ):
        reply = await http.request(method, path, content=wrong, headers=given)
        assert (reply.status_code, reply.json()["code"]) == (400, "book_invalid")
        found = [(one["line"], one["path"]) for one in reply.json()["findings"]]
        assert found == [(1, "currency"), (4, 'campaigns["d\\ud800"]')]
    reply = await http.put("/v1/campaigns", content=b"currency: EUR\n#\xff\n", headers=given)
    assert (reply.status_code, reply.json()["message"].split(": ")[0]) == (400, "campaigns.yaml:2")


async def test_books_sent_at_once_leave_the_versions_that_were_in_force_and_no_others(
    kairos: tuple[httpx.AsyncClient, LocalRuntime],
) -> None:
    http, _ = kairos
    source = (SAMPLES / "cart_recovery.yaml").read_text("utf-8")
    first = (await http.get("/v1/campaigns")).json()["version"]
    given = {"content-type": "application/yaml"}
    sent = [
        http.put("/v1/campaigns", content=source.replace("basket: 60", f"basket: {70 + i}"), headers=given)
        for i in range(4)
    ]
    put = {reply.json()["version"] for reply in await asyncio.gather(*sent)}
    now = (await http.get("/v1/campaigns")).json()
    assert len(put) == 4
    assert set(now["versions"]) == {first, *put}
    assert now["version"] in put


async def test_the_same_book_sent_many_times_at_once_is_kept(kairos: tuple[httpx.AsyncClient, LocalRuntime]) -> None:
    http, _ = kairos
    source = (SAMPLES / "cart_recovery.yaml").read_text("utf-8")
    given = {"content-type": "application/yaml"}
    books = [source.replace("basket: 60", f"basket: {70 + i % 2}") for i in range(8)]
    put = await asyncio.gather(*(http.put("/v1/campaigns", content=book, headers=given) for book in books))
    assert {reply.status_code for reply in put} == {200}
    now = await http.get("/v1/campaigns")
    assert now.status_code == 200
    assert {reply.json()["version"] for reply in put} <= set(now.json()["versions"])
