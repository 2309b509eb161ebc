"""The shapes of redemptions, previews and the catalogue, for the OpenAPI description."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from serving.contract import Id, Shape, Snake


class Verify(Shape):
    """A token as an item of a decision carried it."""

    token: str = Field(max_length=1024)
    redeem: bool | None = Field(default=None, description="Redeem it by this call; it can be once.")


class Redeemable(Shape):
    """Whether a token can be redeemed, or was by this call; what it says is there unless it is not ours."""

    valid: bool
    redeemed: bool | None = None
    reason: Literal["FORGED", "EXPIRED", "SUPERSEDED", "REDEEMED"] | None = None
    redeemed_ms: int | None = None
    decision_id: str | None = None
    campaign: str | None = None
    offer: str | None = None
    amount: float | None = Field(default=None, description="What a personal discount takes off.")
    expires_ms: int | None = None


class RedemptionKey(Shape):
    """The key that signs tokens, for a checkout that checks them by itself: keep it as you keep a password."""

    algorithm: str
    key: str = Field(description="base64url without padding.")


class PreviewRequest(Shape):
    """For how long staged offers are to be seen."""

    seconds: int | None = Field(default=None, ge=1, le=30 * 24 * 3600, description="A day where absent.")


class Preview(Shape):
    """What to send as `preview` with decide."""

    preview: str
    expires_ms: int


class Forcing(Shape):
    """With the admin key: an offer shown whatever its condition says, segments the visitor is taken to be in."""

    offer: Id | None = None
    segments: list[str] | None = None


class CatalogueInForce(Snake):
    """The catalogue in force; `version` null where there is none."""

    version: str | None
    products: int
    out_of_stock: int | None = None
    created_ms: int | None = None


class CatalogueTaken(Snake):
    """The catalogue that is in force now, and the rows that were left out of it."""

    version: str
    products: int
    out_of_stock: int
    skipped: list[str]


VERIFY: Final[dict[str, Any]] = {"token": "kr1.WyJkXzFfMl8zXzAiLCJjIiwibyIsbnVsbCwxXQ.AAAAAAAAAAAAAAAAAAAAAA"}
PREVIEW: Final[dict[str, Any]] = {"seconds": 3600}
