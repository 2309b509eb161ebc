"""The registry of models: versions with their cards in a store, checked against their sums when loaded."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from engine.errors import InvalidInput, NotFound
from training.card import ModelCard
from training.fit import Model
from training.native import LightGbmPredictor

KIND = "model"


class ModelStore(Protocol):
    """Immutable blobs with their meta by kind and version; what the registry needs of `Versions` in `actors.stores`."""

    async def put(self, kind: str, version: str, meta: dict[str, Any], blob: bytes) -> None:
        """Keep a version; putting the same one again changes nothing."""
        ...

    async def get(self, kind: str, version: str) -> tuple[dict[str, Any], bytes] | None:
        """A version with its meta, or None."""
        ...

    async def list(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Every version of a kind with its meta."""
        ...


class InMemoryModels:
    """The store as a dictionary: the reference, and enough for tests."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[dict[str, Any], bytes]] = {}

    async def put(self, kind: str, version: str, meta: dict[str, Any], blob: bytes) -> None:
        """Keep a version; the first one stays."""
        self.kept.setdefault((kind, version), (meta, blob))

    async def get(self, kind: str, version: str) -> tuple[dict[str, Any], bytes] | None:
        """A version with its meta, or None."""
        return self.kept.get((kind, version))

    async def list(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Every version of a kind with its meta."""
        return [(version, meta) for (of, version), (meta, _) in self.kept.items() if of == kind]


class Registry:
    """Models by version: few verbs, nothing cached (whoever serves a model holds it)."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    async def add(self, model: Model) -> str:
        """Keep a model that loads, and give its version. Raises InvalidInput `broken_model` before anything is kept."""
        predictor = await asyncio.to_thread(model.predictor)
        predictor.close()
        await self._store.put(KIND, model.card.version, model.card.model_dump(mode="json"), model.blob)
        return model.card.version

    async def load(self, version: str) -> LightGbmPredictor:
        """A model, checked against its card and ready to answer.

        Raises NotFound `model_unknown`; InvalidInput `broken_model` or `broken_card` when what was kept is not whole.
        """
        kept = await self._store.get(KIND, version)
        if kept is None:
            raise NotFound("model_unknown", f"there is no model {version!r}")
        card = ModelCard.from_object(kept[0])
        if card.version != version:
            raise InvalidInput("broken_card", f"the card of model {version!r} is that of {card.version!r}")
        # Reading the text takes some 10 ms: not on the loop.
        return await asyncio.to_thread(LightGbmPredictor, card, kept[1])

    async def cards(self) -> tuple[ModelCard, ...]:
        """Every card, newest first."""
        cards = [ModelCard.from_object(meta) for _, meta in await self._store.list(KIND)]
        return tuple(sorted(cards, key=lambda card: (-card.created_ms, card.version)))
