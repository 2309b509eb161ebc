"""Posteriors from what has matured: computed now and then beside the trainer, published as a version of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from actors.catalogues import OfferPublisher
from actors.stores import Versions
from engine.errors import KairosError
from engine.predictor import Predictor
from engine.prior import PriorModel
from training.posteriors import Beliefs, beliefs_of
from training.window import Matured

log = logging.getLogger("kairos.learning")
EVERY_S: Final = 60.0
LoadModel = Callable[[str], Awaitable[Predictor]]


class BeliefUpdates:
    """Verbs: run (for as long as learning lives), step."""

    def __init__(
        self, matured: Callable[[], Matured], versions: Versions, load_model: LoadModel, offers: OfferPublisher
    ) -> None:
        self._matured, self._versions, self._load_model, self._offers = matured, versions, load_model, offers
        self._n_rows = -1

    async def run(self, every_s: float = EVERY_S) -> None:
        """Look every so often; without new outcomes nothing is published."""
        while True:
            try:
                await self.step()
            except KairosError as failure:
                log.warning("posteriors wait: %s", failure.message)
            except Exception:
                log.exception("posteriors could not be computed")
            await asyncio.sleep(every_s)

    async def step(self) -> str | None:
        """Publish what the matured examples teach, by the champion's expectations; None where nothing is new."""
        pointer = await self._versions.world()
        # In the loop, where nobody changes the window meanwhile; some tens of milliseconds for a full one.
        rows = self._matured()
        if not pointer["book"] or len(rows.key) == 0:
            return None
        found = await self._versions.get("book", pointer["book"])
        known = offers_of(orjson.loads(found[1])) if found is not None else None
        model = await self._model(pointer["model"] or PriorModel.version)
        beliefs: Beliefs = await asyncio.to_thread(beliefs_of, rows, model.predict_many, known)
        return await self._offers.publish_posteriors(beliefs) if beliefs else None

    async def _model(self, version: str) -> Predictor:
        return PriorModel() if version == PriorModel.version else await self._load_model(version)


def offers_of(book: Mapping[str, Any]) -> list[str]:
    """`campaign.offer` of every offer of a book."""
    return [f"{name}.{offer}" for name, campaign in book["campaigns"].items() for offer in campaign.get("offers") or ()]
