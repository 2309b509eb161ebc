"""What every store must do, run over the in-memory reference and over a real Valkey."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from actors.stores import APPENDED, NOBODY, Appended, Entry, Fenced, Stores, TableState
from engine.errors import Conflict, InvalidInput, Unavailable
from engine.errors import Fenced as FencedError

P = 7


def entry(epoch: int, seq: int, payload: bytes = b"x", partition: int = P) -> Entry:
    return Entry(partition, epoch, seq, payload)


async def written(stores: Stores, *positions: tuple[int, int]) -> None:
    results = await stores.journal.append([entry(e, s, f"{e}/{s}".encode()) for e, s in positions])
    assert results == [APPENDED] * len(positions)


async def test_entries_are_read_back_in_order_and_after_a_position(stores: Stores) -> None:
    await written(stores, (1, 0), (1, 1), (1, 2), (2, 0))
    assert await stores.journal.read(P, None, 10) == [
        ((1, 0), b"1/0"), ((1, 1), b"1/1"), ((1, 2), b"1/2"), ((2, 0), b"2/0")
    ]  # fmt: skip
    assert await stores.journal.read(P, (1, 1), 10) == [((1, 2), b"1/2"), ((2, 0), b"2/0")]
    assert await stores.journal.read(P, None, 2) == [((1, 0), b"1/0"), ((1, 1), b"1/1")]
    assert await stores.journal.read(P, (2, 0), 10) == []


async def test_partitions_do_not_see_each_other(stores: Stores) -> None:
    await stores.journal.append([entry(1, 1, b"a", partition=1), entry(1, 1, b"b", partition=2)])
    assert await stores.journal.read(1, None, 10) == [((1, 1), b"a")]
    assert await stores.journal.read(2, None, 10) == [((1, 1), b"b")]
    assert await stores.journal.read(3, None, 10) == []


async def test_payloads_are_kept_byte_for_byte(stores: Stores) -> None:
    payload = bytes(range(256)) * 5 + b"\r\n$-1\r\n"
    await stores.journal.append([entry(1, 1, payload), entry(1, 2, b"")])
    assert await stores.journal.get(P, (1, 1)) == payload
    assert await stores.journal.get(P, (1, 2)) == b""


async def test_an_empty_append_does_nothing(stores: Stores) -> None:
    assert await stores.journal.append([]) == []


async def test_a_position_that_is_not_held_gives_nothing(stores: Stores) -> None:
    await written(stores, (1, 1))
    assert await stores.journal.get(P, (1, 2)) is None
    assert await stores.journal.get(P + 1, (1, 1)) is None


async def test_an_earlier_epoch_is_refused_once_a_later_one_has_written(stores: Stores) -> None:
    await written(stores, (1, 0), (1, 1), (2, 0))
    [result] = await stores.journal.append([entry(1, 2)])
    assert isinstance(result, Fenced)
    assert await stores.journal.last(P) == (2, 0)
    assert await stores.journal.get(P, (1, 2)) is None


async def test_the_same_position_is_refused_the_second_time(stores: Stores) -> None:
    await written(stores, (1, 1))
    [result] = await stores.journal.append([entry(1, 1, b"again")])
    assert isinstance(result, Fenced)
    assert await stores.journal.get(P, (1, 1)) == b"1/1"


async def test_the_zero_position_does_not_exist(stores: Stores) -> None:
    [result] = await stores.journal.append([entry(0, 0)])
    assert isinstance(result, Fenced)
    assert await stores.journal.last(P) is None


async def test_entries_of_one_append_stand_or_fall_one_by_one(stores: Stores) -> None:
    await written(stores, (5, 0))
    results = await stores.journal.append([entry(4, 9), entry(5, 1), entry(5, 1), entry(4, 9, partition=P + 1)])
    assert [type(result) for result in results] == [Fenced, Appended, Fenced, Appended]


async def test_an_earlier_epoch_stays_refused_after_everything_was_trimmed(stores: Stores) -> None:
    await written(stores, (1, 0), (3, 0), (3, 1))
    assert await stores.journal.trim(P, (9, 0)) == 3
    assert await stores.journal.read(P, None, 10) == []
    assert await stores.journal.first(P) is None
    assert await stores.journal.last(P) == (3, 1)
    results = await stores.journal.append([entry(2, 7), entry(3, 1), entry(3, 2)])
    assert [type(result) for result in results] == [Fenced, Fenced, Appended]


async def test_the_ends_of_all_partitions_are_asked_at_once(stores: Stores) -> None:
    await stores.journal.append([entry(1, 1, partition=0), entry(1, 2, partition=2), entry(3, 0, partition=2)])
    await stores.journal.trim(0, (9, 0))
    assert await stores.journal.lasts(range(4)) == [(1, 1), None, (3, 0), None]
    assert await stores.journal.lasts([2, 0]) == [(3, 0), (1, 1)]
    assert await stores.journal.lasts(range(4)) == [await stores.journal.last(p) for p in range(4)]


async def test_trimming_keeps_what_is_at_and_after_the_given_position(stores: Stores) -> None:
    await written(stores, (1, 0), (1, 1), (1, 2), (2, 0))
    assert await stores.journal.trim(P, (1, 2)) == 2
    assert await stores.journal.first(P) == (1, 2)
    assert [position for position, _ in await stores.journal.read(P, None, 10)] == [(1, 2), (2, 0)]
    assert await stores.journal.trim(P, (1, 2)) == 0


async def test_a_journal_never_written_has_no_first_last_or_size(stores: Stores) -> None:
    assert await stores.journal.last(P) is None
    assert await stores.journal.first(P) is None
    assert await stores.journal.size(P) == (0, 0)
    assert await stores.journal.trim(P, (9, 9)) == 0


async def test_size_counts_entries_and_grows_in_bytes(stores: Stores) -> None:
    await written(stores, (1, 0))
    n_before, bytes_before = await stores.journal.size(P)
    await stores.journal.append([entry(1, seq, b"y" * 5000) for seq in range(1, 5)])
    n_after, bytes_after = await stores.journal.size(P)
    assert (n_before, n_after) == (1, 5)
    assert bytes_after - bytes_before > 15000


async def test_a_redacted_entry_reads_as_its_replacement_in_its_place(stores: Stores) -> None:
    await written(stores, (1, 0), (1, 1), (1, 2), (1, 3))
    await stores.journal.redact(P, (1, 1), b"clean")
    assert await stores.journal.get(P, (1, 1)) == b"clean"
    everything = [((1, 0), b"1/0"), ((1, 1), b"clean"), ((1, 2), b"1/2"), ((1, 3), b"1/3")]
    assert await stores.journal.read(P, None, 10) == everything
    assert await stores.journal.read(P, None, 2) == everything[:2]
    assert await stores.journal.read(P, (1, 1), 1) == everything[2:3]
    assert (await stores.journal.size(P))[0] == 4


async def test_reading_page_by_page_passes_every_redacted_entry_once(stores: Stores) -> None:
    await written(stores, *((1, seq) for seq in range(12)))
    for seq in (0, 3, 4, 5, 11):
        await stores.journal.redact(P, (1, seq), b"clean")
    for limit in (1, 2, 3, 5):
        after, seen = None, []
        while page := await stores.journal.read(P, after, limit):
            seen += [position for position, _ in page]
            after = page[-1][0]
        assert seen == [(1, seq) for seq in range(12)]


async def test_reading_back_page_by_page_is_reading_reversed(stores: Stores) -> None:
    await written(stores, *((1, seq) for seq in range(6)), *((2, seq) for seq in range(6)))
    for at in ((1, 0), (1, 3), (1, 4), (2, 5)):
        await stores.journal.redact(P, at, b"clean")
    forwards = await stores.journal.read(P, None, 100)
    assert len(forwards) == 12
    for limit in (1, 2, 3, 5, 100):
        before, seen = None, []
        while page := await stores.journal.read_back(P, before, limit):
            assert len(page) <= limit
            seen += page
            before = page[-1][0]
        assert seen == forwards[::-1]
    assert await stores.journal.read_back(3, None, 5) == []


async def test_a_redacted_entry_can_be_redacted_again_forgotten_and_trimmed(stores: Stores) -> None:
    await written(stores, (1, 0), (1, 1), (1, 2))
    await stores.journal.redact(P, (1, 0), b"first")
    await stores.journal.redact(P, (1, 0), b"second")
    await stores.journal.redact(P, (1, 1), b"third")
    assert await stores.journal.first(P) == (1, 0)
    assert await stores.journal.get(P, (1, 0)) == b"second"
    await stores.journal.redact(P, (1, 0), None)
    assert await stores.journal.get(P, (1, 0)) is None
    assert await stores.journal.trim(P, (1, 2)) == 1
    assert await stores.journal.read(P, None, 10) == [((1, 2), b"1/2")]


async def test_redacting_the_last_entry_leaves_its_position_taken(stores: Stores) -> None:
    await written(stores, (1, 0), (1, 1))
    await stores.journal.redact(P, (1, 1), None)
    assert await stores.journal.last(P) == (1, 1)
    [result] = await stores.journal.append([entry(1, 1)])
    assert isinstance(result, Fenced)


async def test_redacting_what_is_not_held_creates_nothing(stores: Stores) -> None:
    await written(stores, (1, 5))
    await stores.journal.redact(P, (1, 4), b"ghost")
    assert await stores.journal.read(P, None, 10) == [((1, 5), b"1/5")]
    assert await stores.journal.get(P, (1, 4)) is None


async def test_snapshots_come_back_in_the_order_asked(stores: Stores) -> None:
    await stores.snapshots.save(1, {"anon:a": b"A", "user:ü": b"\x00U"}, [], (1, 3), epoch=1)
    await stores.snapshots.save(2, {"anon:a": b"other"}, [], (1, 1), epoch=1)
    asked = [(2, "anon:a"), (1, "user:ü"), (1, "anon:none"), (1, "anon:a"), (9, "anon:a")]
    assert await stores.snapshots.load(asked) == [b"other", b"\x00U", None, b"A", None]
    assert await stores.snapshots.load([]) == []


async def test_a_save_replaces_deletes_and_says_what_is_covered(stores: Stores) -> None:
    assert await stores.snapshots.covered(P) is None
    await stores.snapshots.save(P, {"anon:a": b"1", "anon:b": b"1"}, [], (1, 1), epoch=1)
    await stores.snapshots.save(P, {"anon:a": b"2"}, ["anon:b", "anon:never"], (1, 9), epoch=1)
    assert await stores.snapshots.load([(P, "anon:a"), (P, "anon:b")]) == [b"2", None]
    assert await stores.snapshots.covered(P) == (1, 9)
    await stores.snapshots.save(P, {}, [], (1, 10), epoch=1)
    assert await stores.snapshots.covered(P) == (1, 10)


async def test_a_save_under_an_overtaken_epoch_changes_nothing(stores: Stores) -> None:
    await written(stores, (1, 0), (1, 1))
    await stores.snapshots.save(P, {"anon:a": b"1"}, [], (1, 1), epoch=1)
    await written(stores, (2, 0))
    with pytest.raises(FencedError):
        await stores.snapshots.save(P, {"anon:a": b"zombie"}, [], (1, 2), epoch=1)
    assert await stores.snapshots.load([(P, "anon:a")]) == [b"1"]
    assert await stores.snapshots.covered(P) == (1, 1)
    await stores.snapshots.save(P, {"anon:a": b"2"}, [], (1, 1), epoch=2)
    assert await stores.snapshots.load([(P, "anon:a")]) == [b"2"]


async def test_an_overtaken_epoch_cannot_save_even_where_the_journal_was_trimmed_empty(stores: Stores) -> None:
    await written(stores, (12, 0))
    await stores.journal.trim(P, (13, 0))
    with pytest.raises(FencedError):
        await stores.snapshots.save(P, {"anon:a": b"zombie"}, [], (9, 0), epoch=9)


async def test_every_track_with_a_snapshot_is_listed(stores: Stores) -> None:
    names = {f"anon:{i}" for i in range(1500)}
    await stores.snapshots.save(P, dict.fromkeys(names, b"s"), [], (1, 1), epoch=1)
    await stores.snapshots.save(P, {}, ["anon:7"], (1, 2), epoch=1)
    listed = [track async for track in stores.snapshots.tracks(P)]
    assert sorted(listed) == sorted(names - {"anon:7"})
    assert [track async for track in stores.snapshots.tracks(P + 1)] == []


async def test_a_version_is_kept_with_its_meta(stores: Stores) -> None:
    await stores.versions.put("model", "m1", {"created_ms": 5, "auc": 0.7}, b"\x00blob")
    assert await stores.versions.get("model", "m1") == ({"created_ms": 5, "auc": 0.7}, b"\x00blob")
    assert await stores.versions.get("model", "m2") is None
    assert await stores.versions.get("book", "m1") is None


async def test_a_version_is_immutable(stores: Stores) -> None:
    await stores.versions.put("book", "b1", {"created_ms": 1}, b"one")
    await stores.versions.put("book", "b1", {"created_ms": 2}, b"one")
    with pytest.raises(Conflict):
        await stores.versions.put("book", "b1", {"created_ms": 3}, b"two")
    assert await stores.versions.get("book", "b1") == ({"created_ms": 1}, b"one")


async def test_versions_are_listed_as_they_came_to_be_and_can_be_deleted(stores: Stores) -> None:
    for version, created_ms in (("z", 1), ("a", 3), ("m", 2)):
        await stores.versions.put("book", version, {"created_ms": created_ms}, version.encode())
    assert await stores.versions.list("book") == [(v, {"created_ms": ms}) for v, ms in (("z", 1), ("m", 2), ("a", 3))]
    assert await stores.versions.delete("book", "m") is True
    assert await stores.versions.delete("book", "m") is False
    assert [version for version, _ in await stores.versions.list("book")] == ["z", "a"]


async def test_the_world_changes_by_compare_and_set_alone(stores: Stores) -> None:
    assert await stores.versions.world() == {"rev": 0, "book": "", "model": ""}
    assert await stores.versions.publish(0, {"book": "b1", "model": "m1", "rev": 99})
    assert not await stores.versions.publish(0, {"book": "b2", "model": "m1"})
    assert await stores.versions.world() == {"rev": 1, "book": "b1", "model": "m1"}
    assert await stores.versions.publish(1, {"book": "b2", "model": "m1", "stage": {"share": 0.05}})
    assert await stores.versions.world() == {"rev": 2, "book": "b2", "model": "m1", "stage": {"share": 0.05}}


async def test_of_many_publishers_at_once_one_wins(stores: Stores) -> None:
    won = await asyncio.gather(*(stores.versions.publish(0, {"book": f"b{i}", "model": ""}) for i in range(8)))
    assert sum(won) == 1
    assert (await stores.versions.world())["book"] == f"b{won.index(True)}"


async def test_a_table_has_to_be_created_and_keeps_its_number_of_partitions(stores: Stores) -> None:
    with pytest.raises(Unavailable) as missing:
        await stores.table.read()
    assert missing.value.code == "no_table"
    assert await stores.table.create(4) == TableState.empty(4)
    assert await stores.table.create(4) == await stores.table.read()
    with pytest.raises(InvalidInput, match="created with 4 partitions and cannot be opened with 8"):
        await stores.table.create(8)


async def test_owners_change_by_compare_and_set_alone(stores: Stores) -> None:
    table = await stores.table.create(3)
    mine = replace(table, owners=(0, 1, NOBODY), epochs=(1, 2, 0))
    assert await stores.table.compare_and_set(0, mine)
    assert not await stores.table.compare_and_set(0, replace(table, owners=(5, 5, 5)))
    held = await stores.table.read()
    assert (held.version, held.owners, held.epochs) == (1, (0, 1, NOBODY), (1, 2, 0))
    with pytest.raises(InvalidInput):
        await stores.table.compare_and_set(1, TableState.empty(8))


async def test_addresses_are_announced_and_an_earlier_incarnation_is_refused(stores: Stores) -> None:
    await stores.table.create(2)
    assert await stores.table.announce(0, "127.0.0.1:1000", 1)
    assert await stores.table.announce(1, "127.0.0.1:2000", 4)
    assert await stores.table.announce(0, "127.0.0.1:1001", 2)
    assert not await stores.table.announce(0, "127.0.0.1:1000", 1)
    held = await stores.table.read()
    assert held.addresses == {0: "127.0.0.1:1001", 1: "127.0.0.1:2000"}
    assert held.incarnations == {0: 2, 1: 4}


async def test_an_announcement_survives_a_change_of_owners(stores: Stores) -> None:
    table = await stores.table.create(2)
    await stores.table.announce(0, "h:1", 1)
    await stores.table.compare_and_set(0, replace(table, owners=(0, 0)))
    assert (await stores.table.read()).addresses == {0: "h:1"}


async def test_epochs_are_unique_and_rise(stores: Stores) -> None:
    epochs = await asyncio.gather(*(stores.table.next_epoch() for _ in range(20)))
    assert sorted(epochs) == list(range(1, 21))


async def test_a_secret_is_made_once(stores: Stores) -> None:
    first = await asyncio.gather(*(stores.table.secret("stream") for _ in range(5)))
    assert len(set(first)) == 1
    assert len(first[0]) == 32
    assert await stores.table.secret("messages") != first[0]
