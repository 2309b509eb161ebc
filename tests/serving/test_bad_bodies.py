"""Bodies that cannot be read are told what is wrong with them: bytes, encodings, sizes; never a 5xx, never a hang."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import orjson
import pytest

from serving.settings import Settings
from serving.settings_branches import BodyLimits
from tests.serving.house import House, a_track, in_batch, is_problem

JSON = {"content-type": "application/json"}


async def send(house: House, body: bytes, path: str = "/v1/track", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await house.client.post(path, content=body, headers=JSON | named)


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/track", b"{"), ("/v1/batch", b""), ("/v1/batch", b"NaN"), ("/v1/batch", b"[]"), ("/v1/batch", b"{}"),
    ("/v1/batch", b'{"batch":[]}'),
])  # fmt: skip
async def test_what_holds_no_event_is_answered_with_counts_all_the_same(house: House, path: str, body: bytes) -> None:
    told = (await send(house, body, path)).json()
    assert (told["success"], told["accepted"], told["duplicates"], told["rejected"]) == (False, 0, 0, [])


@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch", "/v1/decide", "/v1/score"])
@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"{'a':1}", b'{"a":1}x', b"\xff\xfe", b"\xef\xbb\xbf{}"])
async def test_what_is_not_json_is_400(house: House, path: str, body: bytes) -> None:
    assert is_problem(await send(house, body, path), 400, "bad_json")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
async def test_nan_and_infinity_are_not_json(house: House, number: bytes) -> None:
    body = b'{"anonymousId":"a","event":"scroll","properties":{"scroll_px":' + number + b"}}"
    assert is_problem(await send(house, body), 400, "bad_json")


@pytest.mark.parametrize("depth", [65, 1000, 2000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
async def test_a_depth_bomb_is_400(house: House, depth: int, opening: bytes, closing: bytes) -> None:
    inner = opening * depth + b"1" + closing * depth
    body = b'{"anonymousId":"a","event":"x","properties":{"deep":' + inner + b"}}"
    assert is_problem(await send(house, body), 400, "too_deep")
    assert is_problem(await send(house, b'{"batch":[' + body + b"]}", "/v1/batch"), 400, "too_deep")


async def test_a_depth_bomb_of_a_hundred_thousand_levels_is_400(house: House) -> None:
    assert is_problem(await send(house, b"[" * 100_000, "/v1/batch"), 400, "too_deep")


async def test_a_lone_surrogate_is_not_json(house: House) -> None:
    assert is_problem(await send(house, b'{"anonymousId":"\\ud800","event":"x"}'), 400, "bad_json")


async def test_broken_gzip_is_400(house: House) -> None:
    assert is_problem(await send(house, b"not gzip", content_encoding="gzip"), 400, "bad_encoding")


async def test_gzip_cut_short_is_400(house: House) -> None:
    packed = gzip.compress(orjson.dumps(a_track()))[:-10]
    assert is_problem(await send(house, packed, content_encoding="gzip"), 400, "bad_encoding")


async def test_bytes_after_the_gzip_stream_are_400(house: House) -> None:
    packed = gzip.compress(orjson.dumps(a_track())) + b"rest"
    assert is_problem(await send(house, packed, content_encoding="gzip"), 400, "bad_encoding")


async def test_broken_deflate_is_400(house: House) -> None:
    assert is_problem(await send(house, b"\x78\x9cxxxx", content_encoding="deflate"), 400, "bad_encoding")


async def test_an_empty_gzip_body_is_400(house: House) -> None:
    assert is_problem(await send(house, b"", content_encoding="gzip"), 400, "bad_encoding")


async def test_a_decompression_bomb_is_413(house: House) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(bomb) < 60_000
    assert is_problem(await send(house, bomb, "/v1/batch", content_encoding="gzip"), 413, "too_large")


async def test_an_unknown_encoding_is_415(house: House) -> None:
    assert is_problem(await send(house, b"{}", content_encoding="br"), 415, "unsupported_encoding")


@pytest.mark.parametrize(
    "pack", [gzip.compress, zlib.compress, lambda b: zlib.compress(b)[2:-4]], ids=["gzip", "deflate", "raw deflate"]
)
async def test_packed_bodies_are_read(house: House, pack: Any) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    response = await send(house, pack(orjson.dumps(a_track())), content_encoding=encoding)
    assert response.json() == {"success": True, "accepted": 1, "duplicates": 0, "rejected": []}


async def test_a_gzip_of_two_members_is_read(house: House) -> None:
    body = orjson.dumps(a_track())
    packed = gzip.compress(body[:10]) + gzip.compress(body[10:])
    assert (await send(house, packed, content_encoding="gzip")).status_code == 200


@pytest.mark.parametrize("media", ["application/xml", "multipart/form-data; boundary=x", "json", "text/html"])
@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch", "/v1/decide", "/v1/score"])
async def test_other_content_types_are_415(house: House, media: str, path: str) -> None:
    response = await house.client.post(path, content=b"{}", headers={"content-type": media})
    assert is_problem(response, 415, "unsupported_media_type")


async def test_another_charset_is_415(house: House) -> None:
    headers = {"content-type": "application/json; charset=utf-16"}
    response = await house.client.post("/v1/track", content=b"{}", headers=headers)
    assert is_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "media", [None, "application/json", "Application/JSON; charset=UTF-8", "text/plain", "text/plain;charset=UTF-8"]
)
async def test_json_comes_with_these_content_types(house: House, media: str | None) -> None:
    headers = {} if media is None else {"content-type": media}
    response = await house.client.post("/v1/track", content=orjson.dumps(a_track()), headers=headers)
    assert response.status_code == 200


async def test_an_event_of_40_kb_alone_is_413(house: House) -> None:
    assert is_problem(await house.post("/v1/track", a_track(properties={"x": "y" * 40_960})), 413, "too_large")


async def test_an_event_of_32_kb_is_taken_and_one_byte_more_is_not(house: House) -> None:
    empty = len(orjson.dumps(a_track(properties={"x": ""})))
    fits = orjson.dumps(a_track(properties={"x": "y" * (32 * 1024 - empty)}))
    assert (await send(house, fits)).status_code == 200
    assert (await send(house, fits + b" ")).status_code == 413


async def test_an_event_of_40_kb_in_a_batch_is_rejected_alone(house: House) -> None:
    big = a_track(properties={"x": "y" * 40_960})
    response = await house.post("/v1/batch", in_batch(a_track(), big, a_track()))
    body = response.json()
    assert (response.status_code, body["success"], body["accepted"]) == (200, True, 2)
    assert [(r["index"], r["code"]) for r in body["rejected"]] == [(1, "too_large")]


async def test_a_batch_of_600_kb_is_413(house: House) -> None:
    batch = in_batch(*[a_track(properties={"x": "y" * 20_480})] * 30)
    assert is_problem(await house.post("/v1/batch", batch), 413, "too_large")


async def test_a_packed_batch_of_600_kb_is_413(house: House) -> None:
    packed = gzip.compress(orjson.dumps(in_batch(*[a_track(properties={"x": "y" * 20_480})] * 30)))
    assert is_problem(await send(house, packed, "/v1/batch", content_encoding="gzip"), 413, "too_large")


async def test_a_batch_of_490_kb_is_taken(house: House) -> None:
    batch = in_batch(*[a_track(properties={"x": "y" * 20_000})] * 25)
    assert (await house.post("/v1/batch", batch)).json()["accepted"] == 25


async def test_an_empty_batch_is_400(house: House) -> None:
    assert is_problem(await house.post("/v1/batch", {"batch": []}), 400, "empty_batch")


@pytest.mark.parametrize("body", [{}, {"batch": None}, {"batch": {}}, {"batch": "x"}, {"batch": 3}])
async def test_a_batch_that_is_no_list_is_400(house: House, body: Any) -> None:
    assert is_problem(await house.post("/v1/batch", body), 400, "bad_batch")


@pytest.mark.parametrize("body", [b"null", b"[]", b"3", b'"x"', b"true"])
@pytest.mark.parametrize("path", ["/v1/batch", "/v1/decide", "/v1/score", "/v1/identities/unlink"])
async def test_a_body_that_is_no_object_is_400(house: House, path: str, body: bytes) -> None:
    assert is_problem(await send(house, body, path), 400, "bad_body")


@pytest.mark.parametrize("body", [b"null", b"[]", b"3", b'"x"', b"true"])
async def test_an_event_that_is_no_object_is_400(house: House, body: bytes) -> None:
    response = await send(house, body)
    assert is_problem(response, 400, "bad_event")
    assert response.json()["rejected"][0]["index"] == 0


async def test_a_body_that_never_comes_is_408() -> None:
    house = House(Settings(body=BodyLimits(read_timeout_s=0.02)))
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/batch", "headers": [], "query_string": b""}
    await house.app(scope, receive, send)
    assert sent[0]["status"] == 408
    assert orjson.loads(sent[1]["body"])["code"] == "body_timeout"


async def test_a_client_that_hangs_up_gets_no_answer(house: House) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/decide", "headers": [], "query_string": b""}
    await house.app(scope, receive, send)
    assert sent == []
