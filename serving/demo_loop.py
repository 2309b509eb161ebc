"""The loop of learning in minutes: prior, first model, a better one, a bad one refused, a poisoned one rolled back.

Time is compressed and tolerances are widened (`COMPRESSED`), so that a few thousand simulated visitors decide what
takes a real shop days. The gates, the rollout and its guards are the real ones.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

import httpx

from serving.demo_news import News

LOOK_S: Final = 1.0
ASK_EVERY_S: Final = 25.0
SAMPLE: Final = "cart_recovery.yaml"
COMPRESSED: Final = {
    "KAIROS_TRAINING__FIRST_ROWS": "500", "KAIROS_TRAINING__FEWEST_ROWS": "300", "KAIROS_TRAINING__LABELS": "1000000",
    "KAIROS_TRAINING__REFIT_EVERY_S": "15", "KAIROS_TRAINING__TICK_S": "0.5", "KAIROS_TRAINING__READ_S": "1",
    "KAIROS_TRAINING__CHURN": "false",
    "KAIROS_TRAINING__GRACE_S": "2", "KAIROS_ROLLOUT__SHARES": "[0.0, 0.1, 0.5]",
    "KAIROS_ROLLOUT__MINIMUM_S": "[5, 8, 10]", "KAIROS_ROLLOUT__HORIZON_S": "[300, 300, 600]",
    "KAIROS_ROLLOUT__MINIMUM_USERS": "[100, 100, 150]", "KAIROS_ROLLOUT__MARGIN": "0.5",
    "KAIROS_ROLLOUT__QUALITY_MARGIN": "0.3", "KAIROS_ROLLOUT__SAVE_EVERY_S": "10",
}  # fmt: skip
"""Settings of the demo's own Kairos. A tolerance of 50 % of conversion is for a demo alone."""


def compressed_book(data_dir: Path) -> Path:
    """The sample book with windows of seconds, in a file of its own."""
    text = files("serving").joinpath("samples", SAMPLE).read_text("utf-8")
    text = re.sub(r"within: \d+m\b", "within: 15s", text)
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / "compressed_book.yaml"
    path.write_text(text, "utf-8")
    return path


PREFACE: Final = (
    "The loop of learning in five chapters, some five minutes in all: the prior answers (A), a first model takes over",
    "(B), a better one (C), the gates refuse a bad one (D), the canary sends a poisoned one back (E). Each candidate",
    "goes from shadow (scored, unseen) to 10 % and 50 % of visitors; while one is on its way newer ones wait, and the",
    "newest supersedes whichever waits. Time is compressed and margins are wide; gates, guards and rollout are real.",
    "",
)


@dataclass(slots=True)
class Loop:
    """Verb: tell. It only asks for what a person could ask for, but for the two switches that are called so."""

    client: httpx.AsyncClient
    redis_url: str
    say: Callable[[str], None]

    async def tell(self) -> None:
        """All five chapters; what happens by itself is told as it happens."""
        news = News(self.client, lambda line: self.say("   " + line))
        await self._until(news, lambda: bool(news.champion))
        self.say(f"A. {news.champion} answers: nobody has learned anything yet. The trainer waits for examples.")
        await self._until(news, lambda: len(news.ended("promoted")) > 0)
        self.say(f"B. The first model is in force: {news.champion}. Now with more examples, for a better one.")
        await self._until(news, lambda: len(news.ended("promoted")) > 1, ask=True)
        self.say(f"C. A better one is in force: {news.champion}.")
        # Fitting needs the trainer's libraries: four seconds of imports that may pass while visitors come.
        from serving.demo_bad import keep_inverted, put_on_its_way

        self.say("D. DEMO SWITCH: a candidate is fitted on labels turned round, and put before the real gates.")
        bad = await keep_inverted(self.redis_url)
        self.say(f"   {bad.version}: {'passed' if bad.why_not is None else 'refused by the gates'}: {bad.why_not}")
        self.say("E. DEMO SWITCH: behind the gates' back, and without a shadow, it is put on its way all the same.")
        gone = None
        while gone is None:
            await self._make_room(news)
            rollout = await put_on_its_way(self.redis_url, bad.version)
            # A training that ends just now may supersede it while it waits: then it is put on its way again.
            await self._until(news, partial(news.is_over, rollout))
            gone = next((one for one in news.ended("rolled_back") if one["id"] == rollout), None)
        lasted_s = (gone["endedMs"] - gone["startedMs"]) / 1000
        self.say(f"   rolled back by itself after {lasted_s:.0f} s; {news.champion} answers everybody.")
        self.say("The loop is closed: learned, tried, promoted, refused, rolled back, and nobody had to look.")

    async def _make_room(self, news: News) -> None:
        """Roll back by hand whatever is under way: one rollout at a time."""
        await news.read()
        running = news.rollouts.get("running")
        if running:
            body = {"by": "the demo", "why": "to make room"}
            await self.client.post(f"/v1/rollouts/{running['id']}/rollback", json=body)

    async def _until(self, news: News, there: Callable[[], bool], ask: bool = False) -> None:
        waited_s = 0.0
        while True:
            await news.read()
            if there():
                return
            if ask and waited_s >= ASK_EVERY_S and not news.busy:
                waited_s = 0.0
                await self.client.post("/v1/train", json={"recipe": "retrain"})
            await asyncio.sleep(LOOK_S)
            waited_s += LOOK_S
