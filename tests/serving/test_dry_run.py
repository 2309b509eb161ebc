"""`POST /v1/campaigns/dry-run`: takes a book as PUT does, answers what it would change, and changes nothing."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from actors.publishing import Publisher
from serving.app import build_app
from serving.keys import KeyRing
from serving.openapi import openapi
from serving.published import PublishedWorlds
from serving.settings import Settings
from tests.actors.town import BOOK, Town, scroll
from tests.engine.builders import T0
from tests.serving.house import House, is_problem

YAML = {"content-type": "application/yaml"}
PATH = "/v1/campaigns/dry-run"


class Street:
    """The real application over a town of real shards."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.publisher = Publisher(town.stores.versions, town.stores.table, town, town.clock)
        worlds = PublishedWorlds(town.stores.versions, self.publisher)
        app = build_app(town, worlds, Settings(), KeyRing(), clock=town.clock, message_key=b"k" * 32)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


@pytest.fixture
async def street() -> AsyncIterator[Street]:
    town = await Town().start()
    for n, share in enumerate((0.2, 0.66, 0.8)):
        await town.observe(f"anon:v{n}", scroll(share, T0 + n))
        await town.decide(f"anon:v{n}", context={"os": "android"})
    yield Street(town)
    await town.stop()


def lower() -> dict[str, Any]:
    data = copy.deepcopy(BOOK)
    data["campaigns"]["cart"]["segments"]["deep"]["all"][0]["above"] = 0.65
    return data


async def test_a_book_as_yaml_or_json_is_answered_with_what_it_changes(street: Street) -> None:
    in_force = (await street.publisher.current_book())[0]
    as_yaml = await street.client.post(PATH, content=yaml.safe_dump(lower()), headers=YAML)
    as_json = await street.client.post(PATH, json=lower())
    assert as_yaml.status_code == as_json.status_code == 200
    found = as_yaml.json()
    assert found == as_json.json()
    assert (found["decisions"], found["changed"], found["book"], found["shards"]) == (3, 1, in_force, 2)
    assert found["examples"][0]["after"]["items"] == ["free"]
    assert (await street.publisher.current_book())[0] == in_force
    shape = openapi()
    schema = {"$ref": "#/components/schemas/DryRun", "components": shape["components"]}
    jsonschema.Draft202012Validator(schema).validate(found)


async def test_a_wrong_book_is_400_with_every_finding_and_its_line(street: Street) -> None:
    text = yaml.safe_dump(lower()).replace("scroll_share", "scroll_shar").replace("greedy", "greedier")
    response = await street.client.post(PATH, content=text, headers=YAML)
    assert is_problem(response, 400, "book_invalid")
    assert len(response.json()["findings"]) == 2


async def test_warnings_of_the_book_come_along(street: Street) -> None:
    data = lower()
    data["campaigns"]["cart"]["offers"]["free"]["budget"] = {"max": 5, "unit": "redemptions", "per": "1d"}
    found = (await street.client.post(PATH, json=data)).json()
    assert any("redemption" in warning for warning in found["warnings"])
    # A budget that the recorded decisions did not know of is taken to be whole.
    assert not any("BUDGET" in reason for reason in found["reasons"].get("cart.free", {}))


@pytest.mark.parametrize("limit", ["0", "-1", "5001", "many", "", "1e3", "9" * 40])
async def test_a_limit_out_of_range_is_400(house: House, limit: str) -> None:
    response = await house.client.post(f"{PATH}?limit={limit}", json={"campaigns": {}})
    assert is_problem(response, 400, "bad_limit")


async def test_the_limit_is_handed_on_and_has_a_default(house: House) -> None:
    for query, limit in (("", 500), ("?limit=7", 7), ("?limit=5000", 5000)):
        assert (await house.client.post(PATH + query, json={"campaigns": {}})).status_code == 200
        assert house.worlds.dry_run_limit == limit


@pytest.mark.parametrize(
    ("content", "media", "status"),
    [(b"{NaN", "application/json", 400), (b"\xff", "text/yaml", 400), (b"x" * 1_100_000, "text/yaml", 413),
     (b"a", "text/csv", 415)],
)  # fmt: skip
async def test_what_is_no_book_is_refused(house: House, content: bytes, media: str, status: int) -> None:
    response = await house.client.post(PATH, content=content, headers={"content-type": media})
    assert response.status_code == status


async def test_where_no_shard_answers_it_is_503(street: Street) -> None:
    for index in (0, 1):
        await street.town.kill(index)
    response = await street.client.post(PATH, json=BOOK)
    assert is_problem(response, 503, "shard_unavailable")
