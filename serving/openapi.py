"""OpenAPI 3.1 of the contract: paths, shapes, examples and errors."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving import answers, contract, examples, offer_shapes, rollout_answers
from serving.routes_rollouts import VERBS

_REF: Final = "#/components/schemas/{model}"
_ERRORS: Final = {
    400: ("Invalid", "Validation failed: not JSON, nested too deeply, or a property is wrong."),
    401: ("Unauthorised", "No key, or one never issued."),
    403: ("Forbidden", "The key's scopes do not include this call."),
    404: ("NotFound", "What is named does not exist."),
    405: ("WrongMethod", "The path exists and does not do that."),
    408: ("TooSlow", "The body did not arrive in time."),
    409: ("Conflict", "It contradicts what is recorded."),
    410: ("Expired", "Beyond its retention, or erased."),
    413: ("TooLarge", "Too large after decompression."),
    415: ("UnsupportedMedia", "A content type or encoding that is not read."),
    503: ("Unavailable", "Try again in a moment: see Retry-After."),
}
_READS: Final = (400, 401, 403, 503)
_WRITES: Final = (*_READS, 408, 413, 415)


@dataclass(frozen=True, slots=True)
class _Operation:
    method: str
    path: str
    title: str
    scope: str | None
    answer: type[BaseModel] | str
    body: type[BaseModel] | str | None = None
    example: Any = None
    answer_example: Any = None
    errors: tuple[int, ...] = ()
    status: int = 200
    query: tuple[tuple[str, str, str], ...] = ()
    accepted: type[BaseModel] | None = None
    """The answer of a 202, where there is one beside `status`."""


def _operations() -> list[_Operation]:
    a, c, e, o, r = answers, contract, examples, _Operation, rollout_answers
    f = offer_shapes
    events: list[tuple[str, type[BaseModel], Any]] = [
        ("track", c.TrackEvent, e.TRACK), ("identify", c.IdentifyEvent, e.IDENTIFY), ("page", c.PageEvent, e.PAGE),
        ("screen", c.PageEvent, e.SCREEN), ("group", c.GroupEvent, e.GROUP), ("alias", c.AliasEvent, e.ALIAS),
    ]  # fmt: skip
    gone, replay = (404, 410), (("replay", "boolean", "Recompute the decision and say whether it is identical."),)
    backfill = (("backfill", "boolean", "History: no budgets, experiments or alarms."),)
    dry_run = (("limit", "integer", "The newest decisions of each shard: 1 to 5000, 500 where absent."),)
    canary = (("canary", "number", "To this share of users first, 202 with the rollout; absent: to all at once."),)
    open_errors = (503,)
    return [
        *(o("post", f"/v1/{name}", f"Observe: {name}", "write", a.Counts, body, example, e.COUNTS, _WRITES)
          for name, body, example in events),
        o("post", "/v1/batch", "Observe many events", "write", a.Counts, c.Batch, e.BATCH, e.COUNTS, _WRITES,
          query=backfill),
        o("post", "/v1/decide", "Decide what to show", "decide", a.Decision, c.DecideRequest, e.DECIDE, e.DECISION,
          (*(code for code in _WRITES if code != 503), 404)),
        o("get", "/v1/decisions/{id}", "A decision and its explanation", "decide", a.DecisionRecord,
          errors=(*_READS, *gone), query=replay),
        o("post", "/v1/decisions/{id}/reward", "Reward a decision", "write", a.RewardStatus, c.Reward, e.REWARD,
          {"status": "recorded"}, (*_WRITES, *gone, 409)),
        o("get", "/v1/profiles/{id}", "A profile", "admin", a.Profile, errors=(*_READS, 404)),
        o("get", "/v1/profiles/{id}/export", "Everything held", "admin", a.Export, errors=(*_READS, 404)),
        o("delete", "/v1/profiles/{id}", "Erase a profile", "admin", a.Erasure, errors=(*_READS, 404), status=202),
        o("post", "/v1/identities/unlink", "Undo a merge", "admin", a.Unlinked, c.Identities, e.UNLINK,
          {"unlinked": True}, (*_WRITES, 404)),
        o("post", "/v1/score", "Score a visitor", "decide", a.Scored, c.ScoreRequest, e.SCORE, e.SCORED, _WRITES),
        o("post", "/v1/id", "The visitor's id in the server's cookie", "write", a.VisitorId, c.VisitorIdRequest,
          errors=_WRITES),
        o("get", "/v1/tier1", "Tier 1 as this ingress sees it", "admin", a.Tier1State, errors=(401, 403)),
        o("get", "/v1/models", "Models with their cards", "admin", a.Models, errors=(401, 403, 503)),
        o("get", "/v1/experiments", "What experiments show so far", "admin", a.Experiments, errors=(401, 403, 503)),
        o("post", "/v1/train", "Ask for a training", "admin", a.TrainingAccepted, c.TrainRequest, e.TRAIN, e.TRAINED,
          _WRITES, status=202),
        o("get", "/v1/train", "Trainings, and how the trainer stands", "admin", a.Trainings, errors=(401, 403, 503)),
        o("get", "/v1/train/{id}", "A training", "admin", a.TrainingRun, errors=(401, 403, 404, 503)),
        o("post", "/v1/train/{id}/cancel", "End a training", "admin", a.TrainingRun, errors=(401, 403, 404, 503)),
        o("get", "/v1/rollouts", "Rollouts, their evidence and the audit log", "admin", r.Rollouts,
          errors=(401, 403, 503)),
        o("post", "/v1/rollouts", "Start a rollout", "admin", r.RolloutState, c.RolloutStart, e.ROLLOUT_START,
          errors=(*_WRITES, 404, 409), status=202),
        *(o("post", f"/v1/rollouts/{{id}}/{verb}", f"By hand: {verb}", "admin", r.RolloutState, c.ByHand, e.BY_HAND,
            errors=(*_WRITES, 404, 409)) for verb in VERBS),
        o("post", "/v1/redemptions/verify", "Verify a redemption token", "write", f.Redeemable, f.Verify, f.VERIFY,
          {"valid": False, "reason": "FORGED"}, (*_WRITES, 404, 410)),
        o("get", "/v1/redemptions/key", "The key that signs tokens", "admin", f.RedemptionKey, errors=(401, 403, 503)),
        o("post", "/v1/campaigns/preview", "A token that shows what is staged", "admin", f.Preview, f.PreviewRequest,
          f.PREVIEW, errors=_WRITES),
        o("get", "/v1/catalogue", "The catalogue in force", "admin", f.CatalogueInForce, errors=(401, 403, 503)),
        o("put", "/v1/catalogue", "Replace the catalogue", "admin", f.CatalogueTaken, "text/csv", errors=_WRITES,
          query=(("skipBad", "boolean", "Leave rows out that cannot be read."),)),
        o("get", "/v1/campaigns", "The campaign book in force", "admin", a.BookInForce, errors=(401, 403, 503)),
        o("put", "/v1/campaigns", "Replace the campaign book", "admin", a.BookVersion, "application/yaml",
          answer_example=e.ROLLBACK, errors=(*_WRITES, 409), query=canary, accepted=r.BookTried),
        o("post", "/v1/campaigns/dry-run", "Which recent decisions a book would change", "admin", a.DryRun,
          "application/yaml", errors=_WRITES, query=dry_run),
        o("post", "/v1/campaigns/rollback", "Back to an earlier book", "admin", a.BookVersion, a.BookVersion,
          e.ROLLBACK, e.ROLLBACK, (*_WRITES, 404)),
        o("get", "/healthz", "Alive", None, a.Status),
        o("get", "/readyz", "Ready", None, a.Status, errors=open_errors),
        o("get", "/metrics", "Prometheus metrics", None, "text/plain"),
        o("get", "/openapi.json", "This description", None, "application/json"),
        o("get", "/docs", "This description as a page", None, "text/html"),
    ]  # fmt: skip


def openapi() -> dict[str, Any]:
    """The whole document."""
    operations = _operations()
    shapes = [s for op in operations for s in (op.answer, op.body, op.accepted) if isinstance(s, type)]
    shapes += [answers.Problem, answers.Counts]
    _, defs = models_json_schema([(shape, "validation") for shape in dict.fromkeys(shapes)], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method] = _describe(op)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kairos", "version": _version(), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "What to show each visitor now, why, and whether it was right.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": defs["$defs"],
            "responses": {name: _problem(code, name, text) for code, (name, text) in _ERRORS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The key as user name."},
            },
        },
    }  # fmt: skip


def _describe(op: _Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{op.method}_{op.path.strip('/').replace('/', '_').replace('.', '_')}".translate(_NO_BRACES),
        "summary": op.title,
        "tags": [_tag(op.path)],
        "responses": {
            str(op.status): _content(op.answer, op.answer_example, op.title),
            **{str(code): {"$ref": f"#/components/responses/{_ERRORS[code][0]}"} for code in sorted(op.errors)},
        },
    }
    if op.accepted is not None:
        described["responses"]["202"] = _content(op.accepted, None, "It goes to a share of users first.")
    if op.scope is not None:
        described["description"] = f"Needs a key with scope `{op.scope}`; on loopback without keys it is open."
        described["security"] = [{"bearer": []}, {"basic": []}, {}]
    described["parameters"] = [
        {"name": name, "in": "query", "required": False, "schema": {"type": kind}, "description": text}
        for name, kind, text in op.query
    ]
    if "{id}" in op.path:
        described["parameters"].append(
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}, "description": _id(op.path)}
        )
    if op.body is not None:
        described["requestBody"] = {"required": True, **_content(op.body, op.example, "")}
        if op.body == "application/yaml":
            described["requestBody"]["content"]["application/json"] = {"schema": {"type": "object"}}
    return described


_NO_BRACES: Final = str.maketrans("", "", "{}")


def _id(path: str) -> str:
    if "/rollouts/" in path:
        return "The id of a rollout."
    if "/train/" in path:
        return "A runId."
    return "A decisionId." if "decisions" in path else "A profileId, or `user:<userId>`, or `anon:<anonymousId>`."


def _tag(path: str) -> str:
    if not path.startswith("/v1/"):
        return "About"
    name = path.split("/")[2]
    return {
        "decide": "Decide", "decisions": "Decide", "score": "Decide", "tier1": "Decide",
        "profiles": "Profiles", "identities": "Profiles",
        "redemptions": "Offers", "catalogue": "Offers", "campaigns": "Campaigns", "experiments": "Campaigns",
        "models": "Models", "train": "Models", "rollouts": "Models",
    }.get(name, "Observe")  # fmt: skip


def _content(shape: type[BaseModel] | str, example: Any, text: str) -> dict[str, Any]:
    if isinstance(shape, str):
        content: dict[str, Any] = {shape: {"schema": {"type": "object" if "json" in shape else "string"}}}
    else:
        content = {"application/json": {"schema": {"$ref": _REF.format(model=shape.__name__)}}}
        if example is not None:
            content["application/json"]["example"] = example
    return {"description": text, "content": content} if text else {"content": content}


def _problem(status: int, name: str, text: str) -> dict[str, Any]:
    example = {
        "type": "urn:kairos:problem:example", "title": name, "status": status, "detail": text, "code": "example",
        "message": text,
    }  # fmt: skip
    ref = {"$ref": _REF.format(model="Problem")}
    described: dict[str, Any] = {"description": text, "content": {"application/problem+json": {"schema": ref}}}
    described["content"]["application/problem+json"]["example"] = example
    if status == 503:
        described["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return described


def _version() -> str:
    try:
        return version("kairos")
    except PackageNotFoundError:
        return "0"
