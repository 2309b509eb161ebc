"""Whoever looks at a rollout is killed with SIGKILL at call after call; it ends as if nobody had been."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.embedded import EmbeddedStore
from actors.publishing import Publisher
from actors.rollout import Rollouts, RolloutSettings
from actors.stores import Stores
from actors.valkey import valkey_stores
from tests.actors.rollout_process import PLAN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]


async def ended(store: EmbeddedStore, kills: list[tuple[int, str]]) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    """The audit log, the world, and how many processes were killed, once a rollout has come to its end."""
    stores = valkey_stores(store.url)
    await _begin(stores)
    n_killed = 0
    for call, when in [*kills, (0, "never")]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.actors.rollout_process", store.url, str(call), when, cwd=ROOT
        )
        code = await process.wait()
        assert code in (0, -signal.SIGKILL)
        n_killed += code != 0
    rollouts = Rollouts(stores, Publisher(stores.versions, stores.table, None, lambda: 0), lambda: 0)
    audit, world = (await rollouts.status())["audit"], await stores.versions.world()
    await stores.close()
    return audit, world, n_killed


async def _begin(stores: Stores) -> None:
    await stores.table.create(4)
    await stores.versions.put("model", "m1", {}, b"1")
    await stores.versions.publish(0, {"book": "b1", "model": "prior-1"})
    publisher = Publisher(stores.versions, stores.table, None, lambda: 0)
    await Rollouts(stores, publisher, lambda: 0, RolloutSettings(PLAN)).submit("model", "m1", "")


async def test_kills_at_many_calls_change_nothing_of_what_becomes_of_a_rollout(tmp_path: Path) -> None:
    stores = [EmbeddedStore(tmp_path / name) for name in ("calm", "killed")]
    for store in stores:
        await store.start()
    calm = await ended(stores[0], [])
    # Each life gets a little further than the one before; some calls take effect before the kill, others do not.
    killed = await ended(stores[1], [(4 + 8 * life, ("before", "after")[life % 2]) for life in range(6)])
    assert killed[2] >= 4
    assert [line["what"] for line in calm[0]] == ["promoted in canary 50 %", "stage", "stage", "started", "submitted"]
    for line, same in zip(calm[0], killed[0], strict=True):
        assert {**line, "at_ms": 0, "created_ms": 0} == {**same, "at_ms": 0, "created_ms": 0}
    assert (calm[1]["model"], calm[1]["rollout"]) == (killed[1]["model"], killed[1]["rollout"]) == ("m1", None)
    for store in stores:
        await store.stop()
