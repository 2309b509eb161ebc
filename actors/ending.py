"""Ending tasks for certain: a cancellation may be swallowed, so it is said again until it is heard."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

log = logging.getLogger("kairos.tasks")

SAY_AGAIN_S: Final = 3.0
"""How long a task may take to clean up before it is cancelled again."""


async def ended(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until every one is over; what they fail with meanwhile is logged.

    Before Python 3.12 `asyncio.wait_for`, through which redis-py sends, drops a cancellation that comes in the same
    turn as its result (python/cpython#86296): a task in a loop would then go on for ever, and who waits for it with it.
    """
    waiting = {task for task in tasks if task is not None}
    while waiting:
        for task in waiting:
            task.cancel()
        done, waiting = await asyncio.wait(waiting, timeout=SAY_AGAIN_S)
        for task in done:
            if not task.cancelled() and (failure := task.exception()) is not None:
                log.error("%s failed while it was ended", task.get_name(), exc_info=failure)
