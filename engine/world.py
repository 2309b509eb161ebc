"""The world a decision is made in: frozen, versioned, swapped as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from engine.compiled import CompiledBook
from engine.predictor import Predictor


@dataclass(frozen=True, slots=True)
class World:
    """The campaign book in force and the model that answers; `model` None is a world without predictions."""

    book: CompiledBook
    model: Predictor | None
    arm: str = "champion"

    @property
    def model_version(self) -> str:
        """The version every decision names."""
        return self.model.version if self.model is not None else "none"
