"""What the HTTP side needs from the rest of Kairos: somebody to ask, and the published versions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol

Answer = dict[str, Any]
Clock = Callable[[], int]
"""The time in epoch milliseconds."""
Readiness = Callable[[], Awaitable[Mapping[str, object]]]
"""What `/readyz` tells; `{"ready": bool, …}`."""


class Trainings(Protocol):
    """Trainings asked for, under way and done."""

    async def ask(
        self, why: str, recipe: Literal["retrain", "refit"] | None, target: Literal["conversion", "churn"]
    ) -> tuple[str, bool]:
        """The id of a training that will be done, and whether it was asked for already."""

    async def get(self, run_id: str) -> dict[str, Any]:
        """A training as it stands.

        Raises:
            NotFound: `unknown_run`.
        """

    async def list(self) -> list[dict[str, Any]]:
        """Every training that is kept, the oldest first."""

    async def cancel(self, run_id: str) -> dict[str, Any]:
        """End a training; one that is over stays as it is."""

    async def told(self) -> dict[str, Any] | None:
        """How the trainer stands; None where there never was one."""


class RolloutDesk(Protocol):
    """Rollouts: what stands where, and what people do about it."""

    async def status(self) -> dict[str, Any]:
        """What is under way with its evidence, what waits, what has ended, the audit log."""

    async def start(self, kind: str, version: str, by: str, why: str) -> dict[str, Any]:
        """Submit a candidate that is kept; the rollout.

        Raises:
            NotFound: `unknown_version`. Conflict: `already_champion`, `already_submitted`.
        """

    async def start_book(self, source: str, share: float, by: str, why: str) -> dict[str, Any]:
        """A new book to a share of users: `version`, `rollout`, `dryRun`.

        Raises:
            BookInvalid: with every finding. Unavailable: no shard answered.
        """

    async def act(self, rollout_id: str, verb: str, by: str, why: str) -> dict[str, Any]:
        """`promote`, `rollback`, `pause` or `resume`; the rollout afterwards.

        Raises:
            NotFound: `unknown_rollout`. Conflict: `rollout_not_running`.
        """


class Worlds(Protocol):
    """The campaign book and the models in force, and how to change the book."""

    async def current_book(self) -> dict[str, Any]:
        """The book in force: `version`, and the book as `yaml` and `book`."""

    async def put_book(self, source: str) -> str:
        """Replace the whole book by YAML (or JSON) text; return its version.

        Raises:
            BookInvalid: with every finding; nothing was changed.
        """

    async def dry_run(self, source: str, limit: int) -> dict[str, Any]:
        """Which of the newest decisions would come out otherwise under this book; changes nothing.

        Raises:
            BookInvalid: with every finding. Unavailable: no shard answered.
        """

    async def rollback_book(self, version: str) -> str:
        """Put an earlier version in force again; return its version.

        Raises:
            NotFound: `unknown_version`.
        """

    async def catalogue(self) -> dict[str, Any]:
        """The catalogue in force: `version` (null without one), `products`, `out_of_stock`, `created_ms`."""

    async def put_catalogue(
        self, raw: bytes, name: str, rates: Mapping[str, float], *, skip_bad: bool = False
    ) -> dict[str, Any]:
        """Replace the catalogue by the content of a file; `name` is what messages call it.

        Raises:
            InvalidInput: `bad_catalogue`, with the rows that cannot be read.
        """

    async def models(self) -> list[dict[str, Any]]:
        """The models with their cards."""


class ExperimentResults(Protocol):
    """What experiments show so far (`actors.experiments_board`)."""

    async def read(self) -> dict[str, Any]:
        """`experiments`, as of `asOfMs`; `pending` where newer ones are being worked out."""
        ...
