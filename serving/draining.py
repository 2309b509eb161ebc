"""The end of a run is told before it comes: `/readyz` says 503 first, and what is under way is finished."""

from __future__ import annotations

from typing import Any, Final

from actors.stores import Documents

NAME: Final = "draining"
TOLD: Final[dict[str, Any]] = {"ready": False, "message": "Kairos is being stopped"}


async def say_draining(documents: Documents) -> None:
    """From now on no ingress of this Kairos is ready."""
    held = await documents.get(NAME)
    if held is None:
        await documents.compare_and_set(NAME, 0, {})


async def end_draining(documents: Documents) -> None:
    """A new run begins."""
    await documents.delete(NAME)


async def is_draining(documents: Documents) -> bool:
    """Whether the run is being stopped."""
    return await documents.get(NAME) is not None
