"""The archive in object storage (S3 and what speaks like it, Google, Azure) through `obstore`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from actors.archive import Blobs
from engine.errors import InvalidInput, Unavailable

RETRY_S: Final = 60
ABSENT: Final = (FileNotFoundError, NotFoundError)


def open_objects(url: str) -> ObjectArchive:
    """The archive at an address like `s3://bucket/prefix`; nothing is sent before the first call.

    Raises:
        InvalidInput: `bad_archive`.
    """
    try:
        # Options of the client given here would put those of the environment (AWS_ALLOW_HTTP, …) out of force.
        store = from_url(url, retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=RETRY_S)})
    except (BaseError, ValueError) as error:
        raise InvalidInput("bad_archive", f"cannot read the address of the archive: {error}") from None
    return ObjectArchive(store)


class ObjectArchive:
    """One object a blob. A put is one request, which object storage takes whole or not at all."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, name: str, blob: bytes) -> None:
        with _answering():
            await obstore.put_async(self._store, name, blob, use_multipart=False)

    async def list(self, prefix: str) -> Blobs:
        with _answering():
            found = await obstore.list(self._store, prefix).collect_async()
        return sorted((str(one["path"]), int(one["size"])) for one in found)

    async def read(self, name: str, start: int, length: int) -> bytes | None:
        with _answering(), suppress(*ABSENT):
            return bytes(await obstore.get_range_async(self._store, name, start=start, length=length))
        return None

    async def delete(self, name: str) -> None:
        with _answering(), suppress(*ABSENT):
            await obstore.delete_async(self._store, name)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        told = " ".join(str(error).split())[:300]
        code = "archive_full" if "QuotaExceeded" in told or "EntityTooLarge" in told else "archive_unavailable"
        raise Unavailable(code, f"the archive did not answer: {told}") from error
