"""An archiver's process is killed with SIGKILL at every kind of call, again and again; nothing is lost or double."""

from __future__ import annotations

import asyncio
import signal
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import orjson
import pytest

from actors.archive_folder import FolderArchive
from actors.embedded import EmbeddedStore
from actors.history import History
from actors.segments import Segments
from actors.stores import APPENDED, Entry
from actors.valkey import valkey_stores
from tests.actors.archiver_process import NOW_MS, SETTINGS, P

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]


async def test_kills_at_every_call_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    store, folder, dice = EmbeddedStore(tmp_path / "data"), tmp_path / "archive", Random(7)
    await store.start()
    stores = valkey_stores(store.url)
    written, how_they_ended = [], []
    for epoch in range(1, 40):
        entries = [
            Entry(P, 2 * epoch, seq, orjson.dumps([1, ["s", f"anon:{seq}", NOW_MS, 0, dice.randbytes(200).hex()]]))
            for seq in range(1, 101)
        ]
        assert await stores.journal.append(entries) == [APPENDED] * 100
        written += [((e.epoch, e.seq), e.payload) for e in entries]
        # Odd rounds live on; the others die at the 1st, 2nd, … call, before and after it takes effect.
        kill_at, when = (epoch // 2, "after" if epoch % 4 else "before") if epoch % 2 == 0 else (0, "never")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.actors.archiver_process", store.url, str(folder), str(2 * epoch + 1),
            str(kill_at), when, cwd=ROOT,
        )  # fmt: skip
        how_they_ended.append(await process.wait())
        written.append(((2 * epoch + 1, 0), b"[1]"))
        segments = Segments(FolderArchive(folder))
        history = History(stores.journal, segments, foreign=True)
        assert [row async for row in history.entries(P)] == written
        assert all(earlier.last < later.first for earlier, later in pairwise(await segments.names(P)))
    assert how_they_ended.count(-signal.SIGKILL) > 12
    assert set(how_they_ended) == {0, -signal.SIGKILL}
    assert (await stores.journal.size(P))[1] < 2 * SETTINGS.tail_bytes
    await stores.close()
    await store.stop()
