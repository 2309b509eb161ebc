"""Feature schemas by their hash: the names of the features that a decision of an earlier engine was recorded with."""

from __future__ import annotations

from typing import Final

import orjson

from actors.stores import Versions
from engine.schema import PROFILE_FEATURES, schema_hash

KIND: Final = "schema"


class Schemas:
    """Verbs: keep (the engine's own, for those that come after it), names."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._known: dict[str, tuple[str, ...]] = {schema_hash(): PROFILE_FEATURES}
        self._kept = False

    async def keep(self) -> None:
        """Leave the names of this engine's features in the store, once."""
        if not self._kept:
            await self._versions.put(KIND, schema_hash(), {}, orjson.dumps(PROFILE_FEATURES))
            self._kept = True

    async def names(self, schema: str) -> tuple[str, ...] | None:
        """The profile features of a schema, in order; None where nobody has kept them."""
        if schema not in self._known:
            found = await self._versions.get(KIND, schema)
            if found is None:
                return None
            self._known[schema] = tuple(orjson.loads(found[1]))
        return self._known[schema]
