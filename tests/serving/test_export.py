"""`kairos export`: everything recorded in a time, once, in columns."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.archive import open_archive
from actors.segments import Segments
from engine.errors import InvalidInput
from engine.ids import partition_of
from serving.cli import main
from serving.cli.export import moment, write
from tests.actors.town import Town, scroll
from tests.engine.builders import T0, signal

parquet = pytest.importorskip("pyarrow.parquet")

ALL = ("decisions", "rewards", "signals")
HOUR_MS = 3_600_000


@pytest.fixture
async def town(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    town = await Town(n_shards=1, n_partitions=2).start()
    monkeypatch.setattr("actors.valkey.valkey_stores", lambda _address: town.stores)
    yield town
    await town.stop()


async def archived(town: Town, place: Path, partition: int) -> None:
    """Move all that the journal of a partition has into the archive."""
    rows = await town.stores.journal.read(partition, None, 10_000)
    await Segments(open_archive(str(place))).add(partition, 1, rows, town.clock.now_ms)
    await town.stores.journal.trim(partition, (rows[-1][0][0], rows[-1][0][1] + 1))


def read(out: Path, kind: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(out / f"{kind}.parquet").to_pylist()
    return rows


async def test_archive_and_tail_are_handed_out_together_and_once(town: Town, tmp_path: Path) -> None:
    given: list[str] = []
    for hour in range(4):
        town.clock.now_ms = T0 + hour * HOUR_MS
        await town.observe("anon:a", scroll(0.9, town.clock.now_ms), signal("page", t_ms=town.clock.now_ms))
        decided = (await town.decide("anon:a", base=[{"id": "b1", "score": 0.5}]))["decision"]
        given.append(decided["decisionId"])
        home = partition_of("anon:a", 2)
        await town.ask_partition(home, "reward", {"decision_id": given[-1], "value": 0.5, "type": "sale"})
        if hour == 1:
            await archived(town, tmp_path / "archive", home)
    counts = await write("", str(tmp_path / "archive"), tmp_path / "out", ALL, (0, 1 << 52))
    assert counts == {"decisions": 4, "rewards": 4, "signals": 8}
    decisions = read(tmp_path / "out", "decisions")
    assert [row["decision_id"] for row in decisions] == given
    last = decisions[-1]
    assert last["items"][0]["id"] == decided["items"][0]["id"]
    assert last["items"][0]["propensity"] == decided["items"][0]["propensity"]
    assert last["profile_id"] == decided["profileId"]
    assert last["at"].timestamp() * 1000 == T0 + 3 * HOUR_MS
    assert last["features"]["scroll_share"] == pytest.approx(0.9)
    assert [(r["decision_id"], r["type"], r["value"]) for r in read(tmp_path / "out", "rewards")] == [
        (decision_id, "sale", 0.5) for decision_id in given
    ]
    assert {row["kind"] for row in read(tmp_path / "out", "signals")} == {"scroll", "page"}


async def test_only_what_was_received_in_the_time_is_handed_out(town: Town, tmp_path: Path) -> None:
    for hour in range(4):
        town.clock.now_ms = T0 + hour * HOUR_MS
        await town.observe("anon:a", scroll(0.1 * hour, town.clock.now_ms))
    span = (T0 + HOUR_MS, T0 + 3 * HOUR_MS)
    assert await write("", str(tmp_path / "archive"), tmp_path, ("signals",), span) == {"signals": 2}
    assert [row["received_at"].timestamp() * 1000 for row in read(tmp_path, "signals")] == [
        T0 + HOUR_MS,
        T0 + 2 * HOUR_MS,
    ]
    assert not (tmp_path / "decisions.parquet").exists()


async def test_what_was_received_after_the_clock_was_put_back_is_handed_out(town: Town, tmp_path: Path) -> None:
    town.clock.now_ms = T0 + 100 * HOUR_MS
    await town.observe("anon:a", scroll(0.1, town.clock.now_ms))
    town.clock.now_ms = T0
    await town.observe("anon:a", scroll(0.2, town.clock.now_ms))
    assert await write("", str(tmp_path / "archive"), tmp_path, ("signals",), (T0, T0 + HOUR_MS)) == {"signals": 1}


async def test_a_time_in_the_middle_of_the_archive_is_handed_out_alone(town: Town, tmp_path: Path) -> None:
    home = partition_of("anon:a", 2)
    for day in range(5):
        town.clock.now_ms = T0 + 24 * day * HOUR_MS
        await town.observe("anon:a", scroll(0.1 * day, town.clock.now_ms))
        await archived(town, tmp_path / "archive", home)
    for first, last in ((0, 5), (1, 3), (4, 5), (0, 1), (5, 9)):
        span = (T0 + 24 * first * HOUR_MS, T0 + 24 * last * HOUR_MS)
        found = await write("", str(tmp_path / "archive"), tmp_path, ("signals",), span)
        assert found == {"signals": max(0, min(last, 5) - first)}


async def test_nothing_recorded_gives_files_with_columns_and_no_rows(town: Town, tmp_path: Path) -> None:
    await write("", str(tmp_path / "archive"), tmp_path, ALL, (0, 1))
    assert [len(read(tmp_path, kind)) for kind in ALL] == [0, 0, 0]


async def test_an_export_that_fails_leaves_no_half_file(town: Town, tmp_path: Path) -> None:
    await town.observe("anon:a", signal("page"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.exporting.rows_of", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await write("", str(tmp_path / "archive"), tmp_path / "out", ALL, (0, 1 << 52))
    assert list((tmp_path / "out").iterdir()) == []


def test_without_the_extra_it_names_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["export", "--decisions", "--out", "x"]) == 2
    assert "kairos[export]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "ms"),
    [("2026-11-24", 1795478400000), ("2026-11-24T01:00+01:00", 1795478400000), ("1795478400000", 1795478400000)],
)
def test_a_time_is_iso_or_epoch_ms(text: str, ms: int) -> None:
    assert moment(text, "--from", 0) == ms


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="yesterday"):
        moment("yesterday", "--from", 0)
