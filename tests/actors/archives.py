"""Archives for tests: in memory, in a folder, and in an S3 that runs in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from actors.archive import Archive, MemoryArchive, open_archive


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """Where an S3 answers that only this test session uses."""
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.put(f"http://{host}:{port}/kairos", trust_env=False).raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


def archive_of(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Archive:
    """An empty archive: "memory", "folder" or "s3"."""
    if kind == "memory":
        return MemoryArchive()
    if kind == "folder":
        return open_archive(str(tmp_path / "archive"))
    patch = request.getfixturevalue("monkeypatch")
    given = {"ENDPOINT_URL": request.getfixturevalue("s3_address"), "ALLOW_HTTP": "true", "REGION": "eu-central-1",
             "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}  # fmt: skip
    for name, value in given.items():
        patch.setenv(f"AWS_{name}", value)
    return open_archive(f"s3://kairos/{uuid4().hex}")


@pytest.fixture(params=["memory", "folder", "s3"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    """Empty archives of every kind."""
    return archive_of(request.param, tmp_path, request)
