"""Whatever comes over HTTP, the answer is a result or a problem: any JSON, any bytes, any headers."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.events import TYPES
from tests.serving.house import House

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), inner),
    max_leaves=12,
)  # fmt: skip
NAMES = (
    "userId", "anonymousId", "messageId", "timestamp", "sentAt", "context", "properties", "traits", "event", "type",
    "batch", "placement", "signals", "base", "limit", "deadlineMs", "explain", "requestId", "value", "version",
    "groupId", "previousId",
)  # fmt: skip
PROPERTIES = st.dictionaries(
    st.sampled_from(["scroll_px", "scroll_share", "time_on_page_s", "product_id", "price", "items", "products",
                     "currency", "value", "url", "step", "order_id", "hover_ms", "target"]), JSON
)  # fmt: skip
CONTEXTS = st.dictionaries(
    st.sampled_from(["userAgent", "network", "location", "timezone", "locale", "consent", "page", "os", "device",
                     "userAgentData"]),
    JSON | st.dictionaries(st.sampled_from(["wifi", "effectiveType", "latitude", "longitude", "country", "url", "name",
                                            "type", "platform", "mobile", "categoryPreferences"]), JSON),
)  # fmt: skip
EVENTS = st.fixed_dictionaries(
    {"anonymousId": st.just("a") | JSON},
    optional={
        "event": st.sampled_from(["Scroll Depth", "purchase", "add_to_cart", "heartbeat"]) | JSON,
        "type": st.sampled_from([*TYPES]) | JSON, "properties": PROPERTIES | JSON, "context": CONTEXTS | JSON,
        "timestamp": JSON, "userId": JSON, "traits": JSON,
    },
)  # fmt: skip
BODIES = st.one_of(
    JSON, EVENTS, st.dictionaries(st.sampled_from(NAMES), JSON),
    st.fixed_dictionaries({"batch": st.lists(EVENTS | JSON, max_size=4)}, optional={"context": CONTEXTS | JSON}),
    st.fixed_dictionaries(
        {"anonymousId": st.just("a"), "placement": st.just("home")},
        optional={"signals": st.lists(EVENTS | JSON, max_size=3) | JSON, "context": CONTEXTS | JSON,
                  "base": st.lists(st.fixed_dictionaries({"id": JSON}, optional={"score": JSON, "content": JSON}))},
    ),
)  # fmt: skip
PATHS = st.sampled_from(
    [*(f"/v1/{t}" for t in TYPES), "/v1/batch", "/v1/decide", "/v1/score", "/v1/identities/unlink",
     "/v1/decisions/d_1_1_1_0/reward", "/v1/campaigns/rollback"]
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=PATHS, body=BODIES)
async def test_whatever_json_comes_the_answer_is_a_result_or_a_problem(house: House, path: str, body: Any) -> None:
    response = await house.post(path, body)
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert response.json()["code"]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=PATHS, body=st.binary(max_size=200), encoding=st.sampled_from([None, "gzip", "deflate", "br", "\x80"]))
async def test_whatever_bytes_come_the_answer_is_a_problem(
    house: House, path: str, body: bytes, encoding: str | None
) -> None:
    headers = [] if encoding is None else [(b"content-encoding", encoding.encode("latin-1"))]
    response = await house.client.post(path, content=body, headers=headers)
    assert response.status_code in (400, 415)


HEADERS = st.sampled_from(
    ["user-agent", "sec-ch-ua-mobile", "sec-ch-ua-platform", "save-data", "ect", "accept-language", "traceparent",
     "sec-gpc", "origin", "authorization", "content-length-x"]
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(headers=st.dictionaries(HEADERS, st.binary(max_size=60).filter(lambda b: not set(b) & {0, 10, 13})))
async def test_whatever_headers_come_a_decision_arrives(house: House, headers: dict[str, bytes]) -> None:
    named = [(name.encode(), value) for name, value in headers.items()]
    response = await house.post("/v1/decide", {"anonymousId": "a", "placement": "home"}, headers=named)
    assert response.status_code == 200
