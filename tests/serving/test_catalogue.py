"""Catalogues from files: every bad row told, published, followed by the shards, and what offers make of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from actors.catalogues import OfferPublisher
from actors.published_offers import CATALOGUE
from actors.publishing import Publisher
from engine.catalogue import Product
from engine.errors import InvalidInput
from serving.catalogue_files import read_catalogue
from serving.published import PublishedWorlds
from tests.actors.town import BOOK, Town
from tests.engine.builders import T0, signal

CSV = b"""id,title,price,margin,stock,category,image_link
mug,Blue mug,12.50,40%,3,Kitchen,https://shop/mug.jpg
tray,"Tray, large",30,9.99,0,Kitchen,
lamp,Lamp,,,,Light,
"""
FEED = b"""<?xml version="1.0"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>
<item><g:id>mug</g:id><g:title>Blue mug</g:title><g:price>15.00 EUR</g:price><g:sale_price>12.50 EUR</g:sale_price>
<g:cost_of_goods_sold>7.50 EUR</g:cost_of_goods_sold><g:availability>in_stock</g:availability>
<g:product_type>Kitchen</g:product_type><g:image_link>https://shop/mug.jpg</g:image_link></item>
<item><g:id>tray</g:id><title>Tray, large</title><g:price>30 EUR</g:price>
<g:availability>out of stock</g:availability></item>
</channel></rss>"""


def test_a_table_is_read() -> None:
    found = read_catalogue(CSV, "c.csv", "EUR")
    assert found.errors == []
    assert found.products["mug"] == Product("mug", "Blue mug", 12.5, 5.0, 3, "Kitchen", "https://shop/mug.jpg")
    assert (found.products["tray"].available, found.products["lamp"].available) == (False, True)
    assert found.products["tray"].title == "Tray, large"


def test_a_merchant_feed_is_read() -> None:
    found = read_catalogue(FEED, "feed.xml", "EUR")
    mug, tray = found.products["mug"], found.products["tray"]
    assert (mug.price, mug.margin, mug.category, mug.available) == (12.5, 5.0, "Kitchen", True)
    assert (tray.price, tray.title, tray.available) == (30.0, "Tray, large", False)


def test_a_tab_separated_feed_is_read_and_its_money_converted() -> None:
    raw = b"id\ttitle\tprice\tavailability\nmug\tMug\t10.00 USD\tin stock\n"
    assert read_catalogue(raw, "f.tsv", "EUR", {"EUR": 1.0, "USD": 0.9}).products["mug"].price == 9.0


def test_every_bad_row_is_told_with_its_line_what_was_found_and_what_expected() -> None:
    raw = b"id,price,stock,availability\na,12 Euro,1,\n,3,1,\nb,4,some,\nc,5,1,maybe\nd,6,1,\nd,7,1,\ne,5 USD,,\n"
    found = read_catalogue(raw, "c.csv", "EUR")
    assert list(found.products) == ["d"]
    assert found.errors == [
        'c.csv:2: price: found "12 Euro", expected an amount such as 12.99 or 12.99 EUR',
        "c.csv:3: id: found nothing, expected 1 to 256 characters",
        'c.csv:4: stock: found "some", expected a whole number',
        'c.csv:5: availability: found "maybe", expected in_stock, out_of_stock, preorder or backorder',
        'c.csv:7: id: found "d" again, expected each product once',
        'c.csv:8: price: found "5 USD", expected EUR, or a rate for USD and EUR in the settings',
    ]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "no column id"),
        (b"idd,price\nx,1\n", "did you mean idd"),
        (b"id\n", "no product"),
        (b"<rss><item>", "not XML"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><rss/>', "document type"),
        (b"id,price\n\xff,1\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused_as_a_whole(raw: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        read_catalogue(raw, "c.csv", "EUR")
    assert refused.value.code == "bad_catalogue"


# -- in force ------------------------------------------------------------------------------------------


def book(**offers: Any) -> dict[str, Any]:
    data = copy.deepcopy(BOOK)
    data["campaigns"]["cart"]["offers"] = offers
    return data


async def town_with(products: bytes, data: dict[str, Any]) -> tuple[Town, PublishedWorlds]:
    town = await Town(n_shards=1).start(data)
    publisher = Publisher(town.stores.versions, town.stores.table, town, town.clock)
    worlds = PublishedWorlds(town.stores.versions, publisher)
    await worlds.put_catalogue(products, "catalogue", {})
    return town, worlds


ABOUT = {"content": {"text": "{{ catalogue.title }}: {{ catalogue.price | money }}"}, "value": 30, "product": "in_view"}


async def test_content_names_the_product_in_view_and_what_is_out_of_stock_is_never_offered() -> None:
    town, _ = await town_with(CSV, book(about=ABOUT))
    assert (await town.decide("anon:a"))["decision"]["items"] == []
    await town.observe("anon:a", signal("product_viewed", T0, items=[{"id": "mug"}]))
    reply = await town.decide("anon:a", explain=True)
    assert [i["content"] for i in reply["decision"]["items"]] == [{"text": "Blue mug: €12.50"}]
    await town.observe("anon:a", signal("product_viewed", T0 + 1, items=[{"id": "tray"}]))
    town.clock.now_ms += 10
    reply = await town.decide("anon:a", explain=True)
    (told,) = reply["decision"]["explain"]["offers"]
    assert (reply["decision"]["items"], told["reason"]) == ([], "STOCK")
    assert "tray is out of stock" in told["text"]
    looked = await town.ask_partition(
        int(reply["decision"]["decisionId"].split("_")[1]), "decision",
        {"decision_id": reply["decision"]["decisionId"], "replay": True},
    )  # fmt: skip
    assert looked["record"]["identical"] is True
    await town.stop()


async def test_a_sold_out_product_leaves_with_the_next_catalogue_and_a_past_decision_still_replays() -> None:
    town, worlds = await town_with(CSV, book(mug={**ABOUT, "product": "mug"}))
    reply = await town.decide("anon:a")
    assert [i["id"] for i in reply["decision"]["items"]] == ["mug"]
    told = await worlds.put_catalogue(CSV.replace(b"40%,3", b"40%,0"), "catalogue", {})
    assert told["out_of_stock"] == 2
    assert (await town.decide("anon:a"))["decision"]["items"] == []
    decision = reply["decision"]["decisionId"]
    asked = {"decision_id": decision, "replay": True}
    looked = await town.ask_partition(int(decision.split("_")[1]), "decision", asked)
    assert looked["record"]["identical"] is True
    await town.stop()


async def test_the_same_catalogue_again_is_no_new_version_and_old_ones_are_let_go() -> None:
    town, worlds = await town_with(CSV, book(about=ABOUT))
    first = (await worlds.catalogue())["version"]
    assert (await worlds.put_catalogue(CSV, "catalogue", {}))["version"] == first
    offers = OfferPublisher(
        town.stores.versions, Publisher(town.stores.versions, town.stores.table, None, town.clock), town.clock
    )
    for n in range(5):
        await offers.publish_catalogue([Product(f"p{n}")])
    assert len(await town.stores.versions.list(CATALOGUE)) == 3
    assert town.shards[0].worlds.current is not None
    await town.stop()


async def test_bad_rows_keep_the_catalogue_as_it_was_unless_they_are_to_be_left_out() -> None:
    town, worlds = await town_with(CSV, book(about=ABOUT))
    before = await worlds.catalogue()
    with pytest.raises(InvalidInput, match=r"catalogue:3: price"):
        await worlds.put_catalogue(b"id,price\na,1\nb,x\n", "catalogue", {})
    assert await worlds.catalogue() == before
    told = await worlds.put_catalogue(b"id,price\na,1\nb,x\n", "catalogue", {}, skip_bad=True)
    assert (told["products"], len(told["skipped"])) == (1, 1)
    await town.stop()


async def test_a_personal_discount_stays_inside_its_limits_and_is_what_the_token_takes_off() -> None:
    off = {"min": 0.1, "max": 0.5, "step": 0.1, "of": "margin"}
    text = "{{ discount.amount | money }} off, {{ discount.percent }} %: {{ discount.price | money }}"
    offer = {
        "content": {"text": text},
        "value": 30,
        "product": "in_view",
        "discount": off,
        "redemption": {"valid": "1d"},
    }
    town, _ = await town_with(CSV, book(less=offer))
    assert (await town.decide("anon:a"))["decision"]["items"] == []
    await town.observe("anon:a", signal("product_viewed", T0, items=[{"id": "mug"}]))
    (item,) = (await town.decide("anon:a"))["decision"]["items"]
    # A model that knows no better gives the smallest: 10 % of a margin of 5.00.
    assert item["content"] == {"text": "€0.50 off, 4 %: €12.00"}
    desk = town.shards[0].desk
    from engine.tokens import read_redemption

    found = read_redemption(item["token"], desk.redemption_key)
    assert found is not None
    assert found.amount == 0.5
    await town.stop()


def test_the_command_reads_a_file_and_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from serving.cli import main

    missing = main(["catalogue", "import", str(tmp_path / "no.csv")])
    assert (missing, "no_such_file" in capsys.readouterr().err) == (2, True)
