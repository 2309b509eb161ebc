"""What the loop of learning does, told line by line as it happens: trainings, rollouts, who answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

OVER: Final = frozenset({"submitted", "published", "kept", "refused", "failed", "cancelled"})
Json = dict[str, Any]


@dataclass(slots=True)
class News:
    """Reads a running Kairos, and hands on what is new since the last time."""

    client: httpx.AsyncClient
    say: Callable[[str], None]
    runs: list[Json] = field(default_factory=list)
    rollouts: Json = field(default_factory=dict)
    champion: str = ""
    _told: set[str] = field(default_factory=set)
    _n_lines: int = 0

    async def read(self) -> None:
        """Look once; a server that is busy or away is looked at again next time."""
        try:
            trainings = (await self.client.get("/v1/train")).json()
            self.rollouts = (await self.client.get("/v1/rollouts")).json()
            models = (await self.client.get("/v1/models")).json()["models"]
        except (httpx.HTTPError, ValueError, KeyError):
            return
        self.runs = trainings.get("runs", [])
        self.champion = next((one["version"] for one in models if one["champion"]), self.champion)
        for line in (*self._of_trainings(), *self._of_rollouts()):
            self.say(line)

    def _of_trainings(self) -> Iterator[str]:
        for run in reversed(self.runs):
            if run["target"] != "conversion" or run["state"] not in OVER or run["runId"] in self._told:
                continue
            self._told.add(run["runId"])
            rows = f" on {run['nRows']:,} rows" if run.get("nRows") else ""
            outcome = f"passed every gate, {run['candidate']}" if run["candidate"] else f"{run['state']}"
            yield f"training {run['runId']} ({run['why']}){rows}: {outcome}; {run['message'] or ''}"
            for finding in run["findings"]:
                if finding["verdict"] == "refused":
                    yield f"   gate {finding['gate']} refuses: {finding['sentence']}"

    def _of_rollouts(self) -> Iterator[str]:
        for line in reversed(self.rollouts.get("audit", [])):
            if line["n"] <= self._n_lines:
                continue
            self._n_lines = line["n"]
            seen = line["numbers"]
            users = f" ({seen['users']:,} users observed, {seen['exposed']:,} exposed)" if "users" in seen else ""
            yield f"rollout {line['rollout']} {line['what']}: {line['why']}{users}"

    def ended(self, phase: str) -> list[Json]:
        """The rollouts that have come to this end, the newest first."""
        return [one for one in self.rollouts.get("rollouts", []) if one["phase"] == phase]

    def is_over(self, rollout: str) -> bool:
        """Whether a rollout has ended, in whichever way."""
        return any(one["id"] == rollout and one["endedMs"] for one in self.rollouts.get("rollouts", []))

    @property
    def busy(self) -> bool:
        """Whether a training or a rollout is under way."""
        open_runs = any(run["state"] not in OVER for run in self.runs)
        return open_runs or bool(self.rollouts.get("running")) or bool(self.rollouts.get("waiting"))
