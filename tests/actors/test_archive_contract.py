"""What every archive must do, run over the in-memory reference, a folder, and object storage."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from actors.archive import Archive, open_archive
from actors.archive_folder import FolderArchive
from engine.errors import InvalidInput, Unavailable
from tests.actors.archives import archive, s3_address

__all__ = ["archive", "s3_address"]


async def test_a_blob_is_read_back_byte_for_byte_and_in_parts(archive: Archive) -> None:
    blob = bytes(range(256)) * 700
    await archive.put("p0001/a.kseg", blob)
    assert await archive.read("p0001/a.kseg", 0, len(blob)) == blob
    assert await archive.read("p0001/a.kseg", 1000, 5) == blob[1000:1005]
    assert await archive.read("p0001/a.kseg", len(blob) - 3, 10) == blob[-3:]


async def test_the_same_blob_again_changes_nothing(archive: Archive) -> None:
    await archive.put("p0001/a.kseg", b"one")
    await archive.put("p0001/a.kseg", b"one")
    assert await archive.list("p0001/") == [("p0001/a.kseg", 3)]


async def test_a_listing_is_in_order_and_of_one_folder(archive: Archive) -> None:
    for name in ("p0001/b", "p0001/a", "p0010/c", "p0001/aa"):
        await archive.put(name, name.encode())
    assert await archive.list("p0001/") == [("p0001/a", 7), ("p0001/aa", 8), ("p0001/b", 7)]
    assert await archive.list("p0002/") == []


async def test_what_is_not_there_reads_as_nothing_and_can_be_deleted(archive: Archive) -> None:
    assert await archive.read("p0001/none", 0, 10) is None
    await archive.delete("p0001/none")


async def test_what_is_deleted_is_gone(archive: Archive) -> None:
    await archive.put("p0001/a", b"x")
    await archive.delete("p0001/a")
    assert await archive.read("p0001/a", 0, 1) is None
    assert await archive.list("p0001/") == []


async def test_many_blobs_at_once(archive: Archive) -> None:
    names = [f"p0003/{i:03d}" for i in range(40)]
    await asyncio.gather(*(archive.put(name, name.encode()) for name in names))
    assert [name for name, _ in await archive.list("p0003/")] == names


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "archive_full"), (errno.EDQUOT, "archive_full"), (errno.EIO, "archive_unavailable")],
)
async def test_a_folder_that_fails_keeps_no_part_of_a_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    archive = FolderArchive(tmp_path / "archive")
    await archive.put("p0001/a", b"x")

    def failing(_handle: int) -> None:
        raise OSError(number, "no")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", failing)
        with pytest.raises(Unavailable) as failure:
            await archive.put("p0001/b", b"y")
    assert failure.value.code == code
    assert await archive.list("p0001/") == [("p0001/a", 1)]
    assert list((tmp_path / "archive" / "unfinished").iterdir()) == []


async def test_object_storage_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    from obstore.store import S3Store

    from actors.archive_objects import ObjectArchive

    nobody = S3Store("b", endpoint="http://127.0.0.1:9", access_key_id="a", secret_access_key="b", region="x",
                     client_options={"allow_http": True}, retry_config={"max_retries": 0})  # fmt: skip
    calls: list[Any] = [ObjectArchive(nobody).put("p/a", b""), ObjectArchive(nobody).list("p/"),
                        ObjectArchive(nobody).read("p/a", 0, 1), ObjectArchive(nobody).delete("p/a")]  # fmt: skip
    for call in calls:
        with pytest.raises(Unavailable) as failure:
            await call
        assert failure.value.code == "archive_unavailable"


def test_an_address_nobody_understands_is_refused() -> None:
    with pytest.raises(InvalidInput) as refusal:
        open_archive("nonsense://bucket")
    assert refusal.value.code == "bad_archive"


def test_object_storage_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    monkeypatch.delitem(__import__("sys").modules, "actors.archive_objects", raising=False)
    with pytest.raises(InvalidInput, match=r"kairos\[s3\]") as refusal:
        open_archive("s3://bucket/x")
    assert refusal.value.code == "no_extra"
