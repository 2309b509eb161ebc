"""The published world in a shard: loaded and warmed beside the loop, then put in force by flipping a pointer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

import numpy as np
import orjson

from actors.published_offers import CATALOGUE, POSTERIORS, PublishedOffers
from actors.schemas import Schemas
from actors.stores import Versions
from engine.book import compile_book, load_book
from engine.compiled import CompiledBook
from engine.errors import InvalidInput, NotFound, Unavailable
from engine.posteriors import Posteriors
from engine.predictor import Predictor
from engine.prior import PriorModel
from engine.schema import N_FEATURES, schema_hash
from engine.world import CHALLENGER, Trial, World

log = logging.getLogger("kairos.shard")

LoadModel = Callable[[str], Awaitable[Predictor]]
KEPT: Final = 8
"""Books and models of earlier versions kept loaded, for replays and an instant way back."""


class Worlds:
    """Follows the published pointer; `current` is the world in force, None until the first refresh.

    `refused` says why the candidate on trial is not tried here; empty where it is, or where there is none.
    """

    def __init__(self, versions: Versions, load_model: LoadModel) -> None:
        self._versions, self.schemas = versions, Schemas(versions)
        self._load_model = load_model
        self._books: dict[str, CompiledBook] = {}
        self._models: dict[str, Predictor] = {PriorModel.version: PriorModel()}
        self._offers = PublishedOffers(versions)
        self._rev = -1
        self.current: World | None = None
        self.refused = ""

    async def refresh(self) -> bool:
        """Read the pointer; load, warm and flip if it has moved. True when the world changed.

        A version that cannot be loaded leaves the world as it is, and raises; a candidate that cannot is not tried.
        """
        await self.schemas.keep()
        pointer = await self._versions.world()
        if not pointer["book"] or pointer["rev"] <= self._rev:
            return False
        book = await self._book(pointer["book"])
        model = await self._champion(pointer["model"]) or self._models[PriorModel.version]
        churn = await self._champion(pointer["churn"]) if pointer.get("churn") else None
        trial, refused = await self._trial(pointer.get("rollout"))
        posteriors = await self._known_posteriors(pointer.get(POSTERIORS) or "")
        catalogue = await self._offers.catalogue(pointer.get(CATALOGUE) or "")
        if pointer["rev"] <= self._rev:
            # A later pointer was followed while this one's versions were being loaded.
            return False
        self.current = World(book, model, churn=churn, rollout=trial, posteriors=posteriors, catalogue=catalogue)
        self._rev = pointer["rev"]
        self.refused = refused
        if refused:
            log.error("%s; what is in force stays", refused)
        return True

    async def _champion(self, version: str) -> Predictor | None:
        """The model published; None where the very first one is of no use here, for which the prior steps in."""
        try:
            return await self._model(version)
        except (LookupError, InvalidInput, NotFound) as failure:
            if self.current is not None:
                raise
            log.error("model %s is published and cannot answer: %s; the prior does", version, failure)
            return None

    async def _known_posteriors(self, version: str) -> Posteriors | None:
        try:
            return await self._offers.posteriors(version)
        except LookupError as failure:
            log.error("%s; those before stay", failure)
            return self.current.posteriors if self.current is not None else None

    async def _trial(self, told: dict[str, Any] | None) -> tuple[Trial | None, str]:
        if told is None:
            return None, ""
        try:
            challenger = await self._version(told["kind"], told["candidate"])
        except Unavailable:
            # The store will answer again; until then nothing is known to be wrong with the candidate.
            raise
        except Exception as failure:
            return None, f"{told['kind']} {told['candidate']} cannot be tried: {failure}"
        return Trial(told["id"], told["kind"], told["stage"], told["share"], challenger), ""

    async def at(self, versions: Sequence[Any], arm: str) -> World | None:
        """The world a decision names in its record, for a replay; None where a version is no longer kept."""
        _, book, model, _, churn, trial, posteriors = (*versions, "", None, "")[:7] if len(versions) < 7 else versions
        try:
            now = World(
                await self._book(book),
                None if model == "none" else await self._model(model),
                churn=await self._model(churn) if churn else None,
                posteriors=await self._offers.posteriors(posteriors),
            )
            return now if trial is None else await self._tried(now, trial, arm)
        except (LookupError, InvalidInput, NotFound):
            return None

    async def _tried(self, served: World, trial: Sequence[Any], arm: str) -> World:
        """The world with its rollout, from the one that served and the version of the other arm."""
        rollout, kind, stage, share, other = trial
        side = await self._version(kind, other)
        if arm != CHALLENGER:
            challenger, book, model = side, served.book, served.model
        elif isinstance(side, CompiledBook):
            challenger, book, model = served.book, side, served.model
        else:
            assert served.model is not None
            challenger, book, model = served.model, served.book, side
        tried = Trial(rollout, kind, stage, share, challenger)
        return World(book, model, churn=served.churn, rollout=tried, posteriors=served.posteriors)

    async def _version(self, kind: str, version: str) -> CompiledBook | Predictor:
        return await (self._book(version) if kind == "book" else self._model(version))

    async def _book(self, version: str) -> CompiledBook:
        if version not in self._books:
            found = await self._versions.get("book", version)
            if found is None:
                raise LookupError(f"book {version} is not kept")
            # Some 10 ms for the sample: not on the loop.
            self._books[version] = await asyncio.to_thread(_compiled, found[1], version)
            _trim(self._books, self._in_force())
        return self._books[version]

    async def _model(self, version: str) -> Predictor:
        if version not in self._models:
            model = await self._load_model(version)
            check(model)
            self._models[version] = model
            _trim(self._models, self._in_force())
        return self._models[version]

    def _in_force(self) -> set[str]:
        world = self.current
        if world is None:
            return set()
        trial = {world.rollout.version} if world.rollout is not None else set()
        return {world.book.version, world.model_version, world.churn_version} | trial


def check(model: Predictor) -> None:
    """Warm a model up, and see that it answers probabilities to rows of this engine's layout.

    Raises:
        engine.errors.InvalidInput: `wrong_schema`, `no_numbers`.
    """
    if model.schema_hash != schema_hash():
        raise InvalidInput("wrong_schema", f"it was trained on the layout {model.schema_hash}, not {schema_hash()}")
    rows = np.zeros((3, N_FEATURES))
    rows[1], rows[2] = np.nan, 1.0
    for row in (*rows, rows):
        answers = model.predict_many(row) if row.ndim == 2 else np.array([model.predict_one(row)])
        if not bool(np.all((answers >= 0.0) & (answers <= 1.0))):
            raise InvalidInput("no_numbers", f"it answers {answers.tolist()} where probabilities are expected")


def _compiled(stored: bytes, version: str) -> CompiledBook:
    return compile_book(load_book(orjson.loads(stored)), version)


def _trim(kept: dict[str, CompiledBook] | dict[str, Predictor], in_force: Collection[str]) -> None:
    for version in list(kept)[:-KEPT]:
        if version not in in_force and version != PriorModel.version:
            del kept[version]
