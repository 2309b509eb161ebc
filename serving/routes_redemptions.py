"""Redemption tokens and previews over HTTP: verified for the shop's checkout, handed out to those who author."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any, Final

from engine.errors import InvalidInput, NotFound, Unavailable
from engine.fields import refuse
from engine.ids import DecisionId
from engine.tokens import PREVIEW, read_redemption, sign
from serving.bodies import check_media, read_object
from serving.endpoint import Call, Room
from serving.problems import Reply, json_reply, problem_in

ASK_S: Final = 2.0
MAX_PREVIEW_S: Final = 30 * 24 * 3600
PREVIEW_S: Final = 24 * 3600


class Redemptions:
    """Verbs: verify (and redeem), key, preview."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def verify(self, call: Call) -> Reply:
        """Whether a token may be redeemed now; with `redeem`, it is redeemed by this call, once.

        What is wrong with a token is an answer, not an error: `valid` false, with the reason.
        """
        room = self._room
        check_media(call.headers)
        body = read_object(call.body, room.settings.body.depth)
        token, redeem = body.get("token"), body.get("redeem")
        if not isinstance(token, str) or not token:
            raise InvalidInput("bad_token", "token: found nothing, expected the `token` of an item")
        if redeem is not None and not isinstance(redeem, bool):
            raise refuse("redeem", redeem, "true or false", "bad_redeem")
        found = read_redemption(token, room.offer_keys.redemption)
        if found is None:
            return json_reply({"valid": False, "reason": "FORGED"})
        told: dict[str, Any] = {
            "decisionId": found.decision_id, "campaign": found.campaign, "offer": found.offer,
            "amount": found.amount, "expiresMs": found.expires_ms,
        }  # fmt: skip
        if found.expires_ms < call.received_ms:
            return json_reply({"valid": False, "reason": "EXPIRED", **told})
        payload = {
            "decision_id": found.decision_id, "offer": found.offer, "redeem": redeem is True,
            "received_ms": call.received_ms,
        }  # fmt: skip
        partition = DecisionId.parse(found.decision_id).partition
        answer = await room.asks.ask_partition(partition, "redeem", payload, timeout_s=ASK_S)
        refusal = problem_in(answer)
        if refusal is not None:
            if refusal.status == 404:
                raise NotFound("unknown_decision", "the decision of this token is not known here")
            return refusal
        return json_reply({**answer, **told})

    async def key(self, call: Call) -> Reply:  # noqa: ARG002 (the endpoint hands every call over)
        """The key for checking tokens without asking: HMAC-SHA256, base64url without padding."""
        key = self._room.offer_keys.redemption
        if not key:
            raise Unavailable("no_key", "this ingress has no key for redemptions")
        return json_reply({"algorithm": "HMAC-SHA256/128", "key": urlsafe_b64encode(key).decode().rstrip("=")})

    async def preview(self, call: Call) -> Reply:
        """A token with which `POST /v1/decide` shows staged offers and campaigns, for `seconds`."""
        room = self._room
        check_media(call.headers)
        body = read_object(call.body, room.settings.body.depth)
        seconds = body.get("seconds", PREVIEW_S)
        if type(seconds) is not int or not 1 <= seconds <= MAX_PREVIEW_S:
            raise refuse("seconds", seconds, f"a whole number from 1 to {MAX_PREVIEW_S}", "bad_seconds")
        expires_ms = call.received_ms + seconds * 1000
        nonce = room.dice.getrandbits(48)
        token = sign(PREVIEW, (nonce, expires_ms), room.offer_keys.preview)
        return json_reply({"preview": token, "expiresMs": expires_ms})
