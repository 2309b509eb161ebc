"""Profiles, campaigns, health, keys, origins, and the description of it all."""

from __future__ import annotations

import base64
from typing import Any

import jsonschema
import pytest
from starlette.routing import Route

from engine.errors import InvalidInput, Unavailable
from engine.events import TYPES
from engine.ids import profile_id
from serving import examples
from serving.keys import KeyRing, hash_key, new_key, parse_environment, parse_file
from serving.openapi import openapi
from serving.settings import Settings
from tests.serving.house import House, a_track, is_problem

KEYS = "write:write-key-1,decide:decide-key,admin:admin-key-1"


def locked(**more: Any) -> House:
    return House(Settings(**more), KeyRing(parse_environment(KEYS)))


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("given_id", ["user:ada/b?", "anon:a-1", profile_id("user:Ünï"), "user:x/export/y"])
async def test_a_profile_is_read_by_any_of_its_names(house: House, given_id: str) -> None:
    quoted = given_id.replace("?", "%3F")
    read = await house.get(f"/v1/profiles/{quoted}")
    exported = await house.get(f"/v1/profiles/{quoted}/export")
    erased = await house.client.delete(f"/v1/profiles/{quoted}")
    assert (read.status_code, exported.status_code, erased.status_code) == (200, 200, 202)
    assert exported.json()["signals"] == []
    assert erased.json()["receipt"] == {"id": "e_1", "status": "pending"}
    assert [op for _, op in house.asks.ops()] == ["profile", "export", "erase"]
    assert len({track for track, _ in house.asks.ops()}) == 1


async def test_an_unlink_goes_to_the_user(house: House) -> None:
    assert (await house.post("/v1/identities/unlink", examples.UNLINK)).json() == {"unlinked": True}
    assert house.asks.payload("unlink")["anon"] == "anon:a-1"
    assert is_problem(await house.post("/v1/identities/unlink", {"userId": "u"}), 400, "missing_id")


async def test_a_score_is_told_and_503_without_a_shard(house: House) -> None:
    body = (await house.post("/v1/score", examples.SCORE)).json()
    assert body.keys() >= {"conversion", "churn", "score", "model"}
    house.asks.fail["score"] = Unavailable("shard_unavailable", "gone")
    response = await house.post("/v1/score", examples.SCORE)
    assert is_problem(response, 503, "shard_unavailable")
    assert response.headers["retry-after"]


async def test_a_book_is_put_as_yaml_or_json_and_rolled_back(house: House) -> None:
    yaml = await house.client.put("/v1/campaigns", content=b"campaigns: {a: {}}", headers={"content-type": "text/yaml"})
    json = await house.client.put("/v1/campaigns", json={"campaigns": {}})
    assert (yaml.json(), json.json()) == ({"version": "b2"}, {"version": "b3"})
    assert (await house.post("/v1/campaigns/rollback", {"version": "b1"})).json() == {"version": "b1"}
    assert (await house.get("/v1/campaigns")).json()["version"] == "b1"
    assert (await house.get("/v1/campaigns", headers={"accept": "application/yaml"})).text == "campaigns: {}\n"


async def test_a_wrong_book_is_400_with_its_findings(house: House) -> None:
    response = await house.client.put("/v1/campaigns", content=b"typo", headers={"content-type": "application/yaml"})
    assert is_problem(response, 400, "book_invalid")
    assert response.json()["findings"][0]["nearest"] == "campaign"


@pytest.mark.parametrize(
    ("content", "media", "status"),
    [(b"{NaN", "application/json", 400), (b"[]", "application/json", 400), (b"\xff", "text/yaml", 400),
     (b"x" * 1_100_000, "text/yaml", 413), (b"a", "text/csv", 415)],
)  # fmt: skip
async def test_what_is_no_book_is_refused(house: House, content: bytes, media: str, status: int) -> None:
    response = await house.client.put("/v1/campaigns", content=content, headers={"content-type": media})
    assert response.status_code == status
    assert house.worlds.version == "b1"


async def test_a_canary_of_a_book_becomes_a_rollout_and_changes_nothing_yet(house: House) -> None:
    response = await house.client.put(
        "/v1/campaigns?canary=0.05&by=ann", content=b"a", headers={"content-type": "text/yaml"}
    )
    assert (response.status_code, response.json()["version"]) == (202, "b2")
    assert house.desk.log == [("a", 0.05, "ann", "a new campaign book")]
    assert house.worlds.version == "b1"
    described = openapi()["paths"]["/v1/campaigns"]["put"]["responses"]["202"]
    jsonschema.Draft202012Validator(_schema(openapi(), described)).validate(response.json())


@pytest.mark.parametrize("share", ["", "0", "0.6", "nan", "inf", "much"])
async def test_a_canary_that_is_no_share_is_refused(house: House, share: str) -> None:
    response = await house.client.put(f"/v1/campaigns?canary={share}", json={"campaigns": {}})
    assert is_problem(response, 400, "bad_canary")
    assert house.desk.log == []


async def test_an_unknown_version_is_404(house: House) -> None:
    assert is_problem(await house.post("/v1/campaigns/rollback", {"version": "b9"}), 404, "unknown_version")
    assert is_problem(await house.post("/v1/campaigns/rollback", {}), 400, "bad_version")


async def test_health_and_readiness(house: House) -> None:
    assert (await house.get("/healthz")).json() == {"status": "ok"}
    assert (await house.get("/readyz")).json()["status"] == "ready"
    house.asks.fail["stats"] = Unavailable("shard_unavailable", "gone")
    assert is_problem(await house.get("/readyz"), 503, "shard_unavailable")
    assert (await house.client.head("/healthz")).content == b""


async def test_the_page_needs_nothing_from_elsewhere(house: House) -> None:
    response = await house.get("/docs")
    assert response.headers["content-type"].startswith("text/html")
    assert "http://" not in response.text
    assert "https://" not in response.text


# -- keys ------------------------------------------------------------------------------------------------

SCOPE_OF = {
    ("POST", "/v1/track"): "write", ("POST", "/v1/batch"): "write", ("POST", "/v1/decisions/d_1_1_1_0/reward"): "write",
    ("POST", "/v1/decide"): "decide", ("GET", "/v1/decisions/d_1_1_1_0"): "decide", ("POST", "/v1/score"): "decide",
    ("GET", "/v1/profiles/anon:a"): "admin", ("DELETE", "/v1/profiles/anon:a"): "admin",
    ("GET", "/v1/campaigns"): "admin", ("PUT", "/v1/campaigns"): "admin", ("GET", "/v1/models"): "admin",
    ("POST", "/v1/identities/unlink"): "admin", ("POST", "/v1/campaigns/rollback"): "admin",
    ("GET", "/v1/profiles/anon:a/export"): "admin", ("POST", "/v1/campaigns/dry-run"): "admin",
    ("GET", "/v1/rollouts"): "admin", ("POST", "/v1/rollouts"): "admin", ("POST", "/v1/rollouts/r1/promote"): "admin",
    ("POST", "/v1/rollouts/r1/rollback"): "admin", ("POST", "/v1/rollouts/r1/pause"): "admin",
    ("POST", "/v1/rollouts/r1/resume"): "admin",
    ("POST", "/v1/id"): "write", ("GET", "/v1/tier1"): "admin",
    ("GET", "/v1/catalogue"): "admin", ("PUT", "/v1/catalogue"): "admin", ("GET", "/v1/experiments"): "admin",
    ("POST", "/v1/redemptions/verify"): "write", ("GET", "/v1/redemptions/key"): "admin",
    ("POST", "/v1/campaigns/preview"): "admin", ("POST", "/v1/train"): "admin", ("GET", "/v1/train"): "admin",
    ("GET", "/v1/train/t1"): "admin", ("POST", "/v1/train/t1/cancel"): "admin",
    **{("POST", f"/v1/{type_}"): "write" for type_ in TYPES},
}  # fmt: skip
OPEN_TO_ALL_ON_LOOPBACK = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")
KEY_OF = {"write": "write-key-1", "decide": "decide-key", "admin": "admin-key-1"}


@pytest.mark.parametrize(("method", "path"), SCOPE_OF)
async def test_each_call_needs_its_scope_and_admin_opens_all(method: str, path: str) -> None:
    house, needed = locked(), SCOPE_OF[method, path]
    nobody = await house.client.request(method, path, json={})
    assert is_problem(nobody, 401, "missing_key")
    assert "Bearer" in nobody.headers["www-authenticate"]
    for scope, key in KEY_OF.items():
        response = await house.client.request(method, path, json={}, headers=bearer(key))
        if scope in (needed, "admin"):
            assert response.status_code not in (401, 403)
        else:
            assert is_problem(response, 403, "missing_scope")


@pytest.mark.parametrize(
    "given_header", ["Bearer nobody-issued-me", "Bearer", "Basic !!", "Digest x", "write-key-1", "Bearer \xff"]
)
async def test_an_unknown_key_is_401(given_header: str) -> None:
    response = await locked().post("/v1/track", a_track(), headers=[("authorization", given_header.encode("latin-1"))])
    assert response.status_code == 401
    assert response.headers["www-authenticate"]


async def test_a_key_comes_as_the_user_name_of_basic_too() -> None:
    basic = base64.b64encode(b"write-key-1:").decode()
    response = await locked().post("/v1/track", a_track(), headers={"authorization": f"Basic {basic}"})
    assert response.status_code == 200


async def test_health_is_open_and_metrics_are_admins_beyond_loopback() -> None:
    house = locked(host="0.0.0.0")
    assert (await house.get("/healthz")).status_code == 200
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert (await house.get(path)).status_code == 401
        assert (await house.get(path, headers=bearer("write-key-1"))).status_code == 403
        assert (await house.get(path, headers=bearer("admin-key-1"))).status_code == 200
    assert (await locked().get("/metrics")).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "shop.example"])
def test_beyond_loopback_nothing_starts_without_keys(host: str) -> None:
    with pytest.raises(InvalidInput, match="keys") as failure:
        House(Settings(host=host))
    assert failure.value.code == "keys_required"


def test_a_new_key_is_kept_as_a_hash_and_opens_its_scopes() -> None:
    plain, record = new_key(["write"], "web")
    ring = KeyRing(parse_file("# keys\n" + record.to_line() + "\n", "keys"))
    assert plain not in record.to_line()
    assert record.hash == hash_key(plain)
    assert ring.scopes_of(f"Bearer {plain}") == {"write"}


@pytest.mark.parametrize("text", ["{}", "x", '{"hash":"plain","scopes":["write"]}', '[{"hash":5,"scopes":[]}]'])
def test_a_broken_keys_file_names_its_line(text: str) -> None:
    with pytest.raises(InvalidInput, match="line 1") as failure:
        parse_file(text, "keys")
    assert failure.value.code == "bad_keys"


@pytest.mark.parametrize("text", ["write", "write:short", "owner:long-enough-key"])
def test_a_broken_environment_shows_no_key(text: str) -> None:
    with pytest.raises(InvalidInput) as failure:
        parse_environment(text)
    assert "long-enough-key" not in str(failure.value)


# -- origins ---------------------------------------------------------------------------------------------


async def test_pages_of_configured_origins_may_call() -> None:
    house = House(Settings(origins=("https://shop.example",)))
    ask = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    preflight = await house.client.options("/v1/decide", headers=ask)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "https://shop.example")
    assert "anonymousid" in preflight.headers["access-control-allow-headers"].split(", ")  # sent by RudderStack's SDK
    beacon = await house.client.post(
        "/v1/track", content=b'{"anonymousId":"a","event":"x"}',
        headers={"origin": "https://shop.example", "content-type": "text/plain;charset=UTF-8"},
    )  # fmt: skip
    assert (beacon.status_code, beacon.headers["access-control-allow-origin"]) == (200, "https://shop.example")


async def test_pages_of_other_origins_may_not_read_the_answer(house: House) -> None:
    ask = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert (await house.client.options("/v1/decide", headers=ask)).status_code == 405
    response = await house.post("/v1/track", a_track(), headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.example", 403), ("null", 403), ("http://[", 403), ("http://localhost:3000", 200)],
)
async def test_without_keys_a_foreign_page_administers_nothing(house: House, origin: str, status: int) -> None:
    response = await house.post("/v1/campaigns/rollback", {"version": "b1"}, headers={"origin": origin})
    assert response.status_code == status


# -- the description -------------------------------------------------------------------------------------


def test_every_route_is_described_and_nothing_else(house: House) -> None:
    routes = [r for r in house.app.routes if isinstance(r, Route)]
    real = {(m.lower(), r.path.replace(":path", "")) for r in routes for m in (r.methods or set()) - {"HEAD"}}
    described = {(method, path) for path, methods in openapi()["paths"].items() for method in methods}
    assert described == real


def test_every_reference_resolves_and_every_operation_has_its_errors() -> None:
    document = openapi()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(ref := node.get("$ref"), str):
                at: Any = document
                for step in ref.removeprefix("#/").split("/"):
                    at = at[step]
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(document)
    ids = [op["operationId"] for methods in document["paths"].values() for op in methods.values()]
    assert len(ids) == len(set(ids))
    for path, methods in document["paths"].items():
        for op in methods.values():
            assert any(int(status) < 300 for status in op["responses"])
            if path.startswith("/v1/"):
                assert {"401", "403"} <= op["responses"].keys()
                assert op["security"]
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def _schema(document: dict[str, Any], holder: dict[str, Any]) -> dict[str, Any]:
    content = next(iter(holder["content"].values()))
    return {**content["schema"], "components": document["components"]}


async def test_every_example_is_valid_is_taken_and_is_answered_as_described(house: House) -> None:
    document, n = openapi(), 0
    decision_id = (await house.post("/v1/decide", examples.DECIDE)).json()["decisionId"]
    house.worlds.books[examples.ROLLBACK["version"]] = ""
    for path, methods in document["paths"].items():
        for method, op in methods.items():
            ok_status, ok = next(iter(op["responses"].items()))
            body = op.get("requestBody")
            example = body and next(iter(body["content"].values())).get("example")
            if example is not None:
                jsonschema.Draft202012Validator(_schema(document, body)).validate(example)
            if body is not None and example is None:
                example = {"campaigns": {}}
            named = {"decisions": decision_id, "train": "t1", "rollouts": "r1"}
            url = path.replace("{id}", named.get((*path.split("/"), "")[2], "anon:a-1"))
            response = await house.client.request(method, url, json=example)
            assert response.status_code == int(ok_status), (path, response.text)
            media = next(iter(ok["content"]))
            assert response.headers["content-type"].startswith(media)
            if media == "application/json":
                jsonschema.Draft202012Validator(_schema(document, ok)).validate(response.json())
            n += 1
    assert n == len(SCOPE_OF) + len(OPEN_TO_ALL_ON_LOOPBACK)


async def test_problems_are_as_described(house: House) -> None:
    document = openapi()
    schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    for response in (await house.post("/v1/batch", {}), await house.get("/nope"), await house.get("/v1/decide")):
        jsonschema.Draft202012Validator(schema).validate(response.json())
