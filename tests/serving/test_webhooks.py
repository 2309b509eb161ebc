"""Webhooks as an operator sees them: settings, the book's checks, the command line, and a host of their own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from actors.embedded import EmbeddedStore
from actors.memory import memory_stores
from actors.message import Destination
from actors.messenger import DEAD, OFFSETS
from actors.messenger_host import MessengerHost
from actors.stores import Entry
from engine.book import BookInvalid, load_book
from engine.errors import InvalidInput
from engine.record import segments_record
from serving.cli import main
from serving.settings import load_settings
from serving.webhooks import destinations_of, http_post
from tests.actors.receiver import Receiver
from tests.actors.test_messenger import HOOKED, SECRET
from tests.engine.builders import T0


def test_destinations_and_their_secrets_stand_in_the_settings_and_are_not_shown() -> None:
    given = {"KAIROS_WEBHOOKS": '{"mail": {"url": "https://shop.example/h", "secret": "0123456789abcdef", "tries": 3}}'}
    settings = load_settings(None, given)
    to = destinations_of(settings)["mail"]
    assert (to.url, to.secret, to.tries) == ("https://shop.example/h", b"0123456789abcdef", 3)
    assert "0123456789abcdef" not in repr(settings) + repr(to)


@pytest.mark.parametrize(
    "wrong", ['{"url": "ftp://x", "secret": "0123456789abcdef"}', '{"url": "https://x", "secret": "short"}']
)
def test_a_destination_without_a_usable_address_or_secret_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput, match="webhooks"):
        load_settings(None, {"KAIROS_WEBHOOKS": f'{{"mail": {wrong}}}'})


def with_webhook(wish: Any) -> dict[str, Any]:
    return {**HOOKED, "campaigns": {"cart": {**HOOKED["campaigns"]["cart"], "webhooks": {"mail": wish}}}}


@pytest.mark.parametrize(
    ("wish", "code", "place"),
    [
        ({"segments": ["deap"]}, "unknown_segment", "campaigns.cart.webhooks.mail.segments[0]"),
        ({"segments": ["deep"], "tell": ["come"]}, "unknown_value", "campaigns.cart.webhooks.mail.tell[0]"),
        ({"segments": []}, None, "campaigns.cart.webhooks.mail.segments"),
        ({"segments": ["deep"], "secret": "s"}, "unknown_key", "campaigns.cart.webhooks.mail.secret"),
    ],
)
def test_a_wrong_webhook_in_a_book_is_named_with_its_place(wish: Any, code: str | None, place: str) -> None:
    with pytest.raises(BookInvalid) as caught:
        load_book(with_webhook(wish))
    found = {finding.path: finding for finding in caught.value.findings}
    assert place in found
    if code == "unknown_segment":
        assert "did you mean deep" in found[place].message


async def test_a_host_serves_its_destinations_beside_everything_else() -> None:
    shop, stores = await Receiver().start(), memory_stores()
    await stores.table.create(2)
    await stores.versions.put("book", "b1", {}, json.dumps(HOOKED).encode())
    await stores.versions.publish(0, {"book": "b1", "model": "prior-1"})
    to = {"mail": Destination("mail", shop.url, SECRET)}
    host = MessengerHost("", None, to, http_post(), lambda url: stores, every_s=0.01)
    await asyncio.to_thread(host.start)
    while await stores.documents.get(OFFSETS + "mail") is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    record = segments_record("anon:a", T0, {"cart.deep": [T0]}, {})
    await stores.journal.append([Entry(1, 1, 1, json.dumps([1, record]).encode())])
    while not shop.taken:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.to_thread(host.stop)
    assert len(shop.taken) == 1
    await shop.stop()


def test_dead_letters_are_listed_and_sent_anew_by_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = EmbeddedStore(tmp_path)
    asyncio.run(store.start())
    letter = {"key": "t_1", "place": "0_1_1_0", "segment": "deep", "kind": "enter", "campaign": "cart", "at_ms": T0,
              "dead_ms": T0, "tries": 8, "status": 503, "error": "", "redrive": False}  # fmt: skip

    async def put() -> None:
        from actors.valkey import valkey_stores

        stores = valkey_stores(store.url)
        told = {"offsets": [], "delivered": 3, "failed_tries": 8, "dead": 1}
        await stores.documents.compare_and_set(OFFSETS + "mail", 0, told)
        await stores.documents.compare_and_set(DEAD + "mail/t_1", 0, letter)
        await stores.close()

    asyncio.run(put())
    where = ["--redis-url", store.url]
    assert main(["webhooks", "list", *where]) == 0
    said = capsys.readouterr().out
    assert "mail: delivered 3" in said
    assert "t_1  mail" in said
    assert "HTTP 503" in said
    assert main(["webhooks", "redrive", "mail", *where]) == 0
    assert "1 to be sent anew" in capsys.readouterr().out
    assert main(["webhooks", "list", "--json", *where]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["deadLetters"][0]["redrive"] is True
    assert main(["webhooks", "redrive", "mail", "--key", "t_2", *where]) == 1
    asyncio.run(store.stop())
