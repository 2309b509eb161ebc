"""The published world in a shard: loaded and warmed beside the loop, then put in force by flipping a pointer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np
import orjson

from actors.stores import Versions
from engine.book import compile_book, load_book
from engine.compiled import CompiledBook
from engine.predictor import Predictor
from engine.prior import PriorModel
from engine.schema import N_FEATURES
from engine.world import World

LoadModel = Callable[[str], Awaitable[Predictor]]
KEPT: Final = 8
"""Books and models of earlier versions kept loaded, for replays and an instant way back."""


class Worlds:
    """Follows the published pointer; `current` is the world in force, None until the first refresh."""

    def __init__(self, versions: Versions, load_model: LoadModel) -> None:
        self._versions = versions
        self._load_model = load_model
        self._books: dict[str, CompiledBook] = {}
        self._models: dict[str, Predictor] = {PriorModel.version: PriorModel()}
        self._rev = -1
        self.current: World | None = None

    async def refresh(self) -> bool:
        """Read the pointer; load, warm and flip if it has moved. True when the world changed.

        A version that cannot be loaded leaves the world as it is, and raises.
        """
        pointer = await self._versions.world()
        if not pointer["book"] or pointer["rev"] <= self._rev:
            return False
        world = World(await self._book(pointer["book"]), await self._model(pointer["model"]))
        if pointer["rev"] <= self._rev:
            # A later pointer was followed while this one's versions were being loaded.
            return False
        self.current, self._rev = world, pointer["rev"]
        return True

    async def at(self, book: str, model: str) -> World | None:
        """The world of earlier versions, for a replay; None where one of them is no longer kept."""
        try:
            return World(await self._book(book), None if model == "none" else await self._model(model))
        except LookupError:
            return None

    async def _book(self, version: str) -> CompiledBook:
        if version not in self._books:
            found = await self._versions.get("book", version)
            if found is None:
                raise LookupError(f"book {version} is not kept")
            self._books[version] = compile_book(load_book(orjson.loads(found[1])), version)
            _trim(self._books, self.current.book.version if self.current else "")
        return self._books[version]

    async def _model(self, version: str) -> Predictor:
        if version not in self._models:
            model = await self._load_model(version)
            model.predict_many(np.zeros((2, N_FEATURES)))
            model.predict_one(np.zeros(N_FEATURES))
            self._models[version] = model
            _trim(self._models, self.current.model_version if self.current else "")
        return self._models[version]


def _trim(kept: dict[str, CompiledBook] | dict[str, Predictor], current: str) -> None:
    for version in list(kept)[:-KEPT]:
        if version not in (current, PriorModel.version):
            del kept[version]
