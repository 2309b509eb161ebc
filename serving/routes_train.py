"""Trainings over HTTP: asking for one, looking at it, ending it."""

from __future__ import annotations

from typing import Any, Final

from engine.errors import Unavailable
from engine.fields import refuse
from serving.bodies import check_media, read_object
from serving.endpoint import Call, Room
from serving.ports import Trainings
from serving.problems import Reply, json_reply

SHOWN: Final = 50
RECIPES: Final = ("retrain", "refit")
TARGETS: Final = ("conversion", "churn")


class Training:
    """What the trainer is asked, through documents in the store: it need not answer for a run to be accepted."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def ask(self, call: Call) -> Reply:
        """Ask for a training; 202 with its id. One of the target that waits already is joined."""
        body: dict[str, Any] = {}
        if call.body.strip():
            check_media(call.headers)
            body = read_object(call.body, self._room.settings.body.depth)
        recipe, target = body.get("recipe"), body.get("target", TARGETS[0])
        if recipe is not None and recipe not in RECIPES:
            raise refuse("recipe", recipe, " or ".join(RECIPES), "bad_recipe")
        if target not in TARGETS:
            raise refuse("target", target, " or ".join(TARGETS), "bad_target")
        run_id, joined = await self._trainings.ask("request", recipe, target)
        return json_reply({"runId": run_id, "joined": joined}, 202)

    async def list(self, call: Call) -> Reply:  # noqa: ARG002 (the endpoint hands every call over)
        """The newest runs, and how the trainer stands."""
        trainer = await self._trainings.told()
        runs = (await self._trainings.list())[: -SHOWN - 1 : -1]
        return json_reply({"trainer": None if trainer is None else camel(trainer), "runs": [shown(r) for r in runs]})

    async def read(self, call: Call) -> Reply:
        """A run: its state, how far it is, why it ended as it did, every gate with its numbers."""
        return json_reply(shown(await self._trainings.get(call.part("id"))))

    async def cancel(self, call: Call) -> Reply:
        """End a run; what is in force stays."""
        return json_reply(shown(await self._trainings.cancel(call.part("id"))))

    @property
    def _trainings(self) -> Trainings:
        if self._room.trainings is None:
            raise Unavailable("no_trainer", "this Kairos has no trainer")
        return self._room.trainings


def shown(run: dict[str, Any]) -> dict[str, Any]:
    """A run as it is told: without what only the trainer needs."""
    return camel({"run_id" if name == "id" else name: x for name, x in run.items() if name not in ("owner", "cancel")})


def camel(fields: dict[str, Any]) -> dict[str, Any]:
    """The names of the outermost fields as the contract writes them."""

    def name(snake: str) -> str:
        first, *rest = snake.split("_")
        return first + "".join(part.title() for part in rest)

    return {name(key): value for key, value in fields.items()}
