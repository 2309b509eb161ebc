"""The keys that sign what goes out with offers: redemptions for the shop's checkout, previews of staged content."""

from __future__ import annotations

from dataclasses import dataclass

from actors.stores import Table


@dataclass(frozen=True, slots=True)
class OfferKeys:
    """Made once for a data set and kept in the store; every shard and ingress has the same."""

    redemption: bytes = b""
    preview: bytes = b""

    @classmethod
    async def read(cls, table: Table) -> OfferKeys:
        """From the store."""
        return cls(await table.secret("redemptions"), await table.secret("previews"))
