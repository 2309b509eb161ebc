"""What a decide call asks for quality assurance: a preview token, or a forced offer or segments with the admin key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import Forbidden
from engine.fields import identifier, refuse
from engine.tokens import MAX_TOKEN
from serving.endpoint import Call, check_local_origin
from serving.keys import KeyRing

MAX_SEGMENTS = 64


def read_forced(body: Mapping[str, Any], call: Call, keys: KeyRing) -> dict[str, Any]:
    """`preview` and `qa` of a request as they go to the shard; empty where there is neither.

    Raises:
        Rejected: `bad_preview`, `bad_qa`. Forbidden: `missing_scope`, `qa` without the admin key.
    """
    forced: dict[str, Any] = {}
    preview, asked = body.get("preview"), body.get("qa")
    if preview is not None:
        if not isinstance(preview, str) or not 0 < len(preview) <= MAX_TOKEN:
            raise refuse("preview", preview, "a token of POST /v1/campaigns/preview", "bad_preview")
        forced["preview"] = preview
    if asked is not None:
        _check_admin(call, keys)
        if not isinstance(asked, dict) or not asked or not asked.keys() <= {"offer", "segments"}:
            raise refuse("qa", asked, "an object with offer, segments or both", "bad_qa")
        segments = asked.get("segments")
        if segments is not None and (not isinstance(segments, list) or len(segments) > MAX_SEGMENTS):
            raise refuse("qa.segments", segments, f"a list of at most {MAX_SEGMENTS} names", "bad_qa")
        forced["qa"] = {
            "offer": identifier("qa.offer", asked.get("offer"), "bad_qa"),
            "segments": None
            if segments is None
            else [identifier(f"qa.segments[{i}]", name, "bad_qa") for i, name in enumerate(segments)],
        }
    return forced


def _check_admin(call: Call, keys: KeyRing) -> None:
    if keys.open:
        if b"origin" in call.headers:
            check_local_origin(call.headers)
    elif "admin" not in keys.scopes_of(call.header(b"authorization")):
        raise Forbidden("missing_scope", "qa: only a key that opens 'admin' calls forces an offer or segments")
